//! Who is on the other end: `hello`, `token`, and the end of a token.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use futures_util::future::BoxFuture;
use kronos_protocol::{
    client::{Hello, Op, TokenUpdate},
    close::{CloseCode, CloseReason},
    error::ErrorCode,
    ids::Ref,
    server::{TokenAccepted, UserInfo, Welcome, WireError},
};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Connection, Ctx, Standing, output::bound};
use crate::{
    clock::Millis,
    metrics::auth_failed,
    principal::{AuthError, Principal},
};

/// What a client waits when tokens cannot be checked, or its user has too many connections.
const RETRY_MS: u64 = 2_000;
/// `expires_at` of a token without an end.
const NEVER: &str = "9999-12-31T23:59:59Z";

impl Connection {
    /// Takes `hello`: checks the token, if it brings one, while everything else waits.
    pub(super) fn hello(&mut self, reference: Ref, hello: Hello, ctx: &mut Ctx) {
        let proven = match &self.standing {
            Standing::Known(_) => {
                let error = WireError::of(ErrorCode::Conflict, "hello was said before");
                return self.refuse(Some(Op::Hello), Some(reference), error, ctx);
            }
            Standing::Stranger { proven } => proven.is_some(),
        };
        if hello.codec.is_some_and(|codec| codec != self.codec) {
            let details = json!({ "op": Op::Hello, "field": "codec", "codec": self.codec });
            let error = WireError::of(ErrorCode::Validation, "codec: the subprotocol chose another one");
            return self.refuse(Some(Op::Hello), Some(reference), WireError { details, ..error }, ctx);
        }
        self.client = hello.client;
        if proven && hello.token.is_none() {
            return self.greet(reference, None, ctx);
        }
        let checked = self.check(hello.token).into_actor(self);
        ctx.wait(checked.map(move |result, this, ctx| match result {
            Ok(principal) => this.greet(reference, Some(principal), ctx),
            Err(error) => {
                this.refuse(Some(Op::Hello), Some(reference), auth_error(&error), ctx);
                this.turn_away(&error, ctx);
            }
        }));
    }

    /// Asks the authenticator, but not for ever: nothing else of this connection runs meanwhile.
    fn check(&self, token: Option<String>) -> BoxFuture<'static, Result<Principal, AuthError>> {
        let answer = self.deps.authenticator.authenticate(token);
        let limit = self.deps.config.hello_timeout;
        Box::pin(async move {
            tokio::time::timeout(limit, answer).await.unwrap_or_else(|_elapsed| {
                auth_failed(&AuthError::Unavailable);
                Err(AuthError::Unavailable)
            })
        })
    }

    /// Closes because of bad credentials.
    pub(super) fn turn_away(&mut self, error: &AuthError, ctx: &mut Ctx) {
        match error {
            AuthError::Missing | AuthError::Invalid | AuthError::Expired | AuthError::Revoked => {
                self.close(CloseCode::Unauthenticated, ctx);
            }
            AuthError::Unavailable | AuthError::NoKey => self.try_later(ctx),
        }
    }

    fn try_later(&mut self, ctx: &mut Ctx) {
        let reason = CloseReason {
            retry: true,
            after_ms: Some(RETRY_MS),
        };
        self.close_with(CloseCode::TryLater, reason, ctx);
    }

    /// Welcomes whom the token of `hello` proved, or the upgrade before it.
    fn greet(&mut self, reference: Ref, checked: Option<Principal>, ctx: &mut Ctx) {
        let Standing::Stranger { proven } = &mut self.standing else {
            return;
        };
        let proven = proven.take();
        if let (Some(first), Some(second)) = (&proven, &checked)
            && first.user != second.user
        {
            self.refuse(Some(Op::Hello), Some(reference), other_user(), ctx);
            return self.close(CloseCode::Forbidden, ctx);
        }
        let Some(principal) = checked.or(proven) else {
            return self.fail("nobody to greet", ctx);
        };
        if let Err(full) = self.permit.identify(&principal) {
            let (name, limit) = full.bound();
            self.refuse(Some(Op::Hello), Some(reference), bound(name, limit, RETRY_MS), ctx);
            return self.try_later(ctx);
        }
        if !self.deps.authenticator.holds(&principal) {
            auth_failed(&AuthError::Revoked);
            self.refuse(Some(Op::Hello), Some(reference), auth_error(&AuthError::Revoked), ctx);
            return self.close(CloseCode::Unauthenticated, ctx);
        }
        self.link.set_limit(self.deps.config.frame_bytes);
        let welcome = self.welcome(&principal);
        self.standing = Standing::Known(Arc::new(principal));
        self.confirm(Op::Hello, reference, welcome, ctx);
        self.watch_expiry(ctx);
    }

    fn welcome(&self, principal: &Principal) -> Welcome {
        let user = UserInfo {
            name: principal.name.clone(),
            ..UserInfo::new(principal.user.clone())
        };
        Welcome {
            server: self.deps.server.clone(),
            limits: self.deps.limits.clone(),
            ping_seconds: u32::try_from(self.deps.config.ping_interval.as_secs())
                .unwrap_or(u32::MAX)
                .max(1),
            time: rfc3339(self.deps.clock.now_ms()),
            ..Welcome::new(self.id.clone(), user)
        }
    }

    /// Takes `token`: a fresh one of the same user. A bad one changes nothing: the old one counts until its end.
    pub(super) fn token(&mut self, reference: Ref, update: TokenUpdate, ctx: &mut Ctx) {
        self.pending += 1;
        let checked = self.check(Some(update.token)).into_actor(self);
        ctx.spawn(checked.map(move |result, this, ctx| {
            this.pending = this.pending.saturating_sub(1);
            match result {
                Ok(principal) => this.extend(reference, principal, ctx),
                Err(error) => this.refuse(Some(Op::TokenUpdate), Some(reference), auth_error(&error), ctx),
            }
        }));
    }

    fn extend(&mut self, reference: Ref, fresh: Principal, ctx: &mut Ctx) {
        let Standing::Known(principal) = &mut self.standing else {
            return;
        };
        if principal.user != fresh.user {
            return self.refuse(Some(Op::TokenUpdate), Some(reference), other_user(), ctx);
        }
        let expires_at = fresh.expires_at_ms.map_or_else(|| NEVER.to_owned(), rfc3339);
        // The user has a place already, so there is no bound to be over.
        if self.permit.identify(&fresh).is_err() {
            return self.fail("a place was lost", ctx);
        }
        if !self.deps.authenticator.holds(&fresh) {
            auth_failed(&AuthError::Revoked);
            return self.close(CloseCode::Unauthenticated, ctx);
        }
        *principal = Arc::new(fresh);
        self.confirm(Op::TokenUpdate, reference, TokenAccepted::new(expires_at), ctx);
        self.watch_expiry(ctx);
    }

    /// Closes when the token has ended.
    fn watch_expiry(&mut self, ctx: &mut Ctx) {
        if let Some(before) = self.expiry.take() {
            ctx.cancel_future(before);
        }
        let Standing::Known(principal) = &self.standing else {
            return;
        };
        let Some(end) = principal.expires_at_ms else { return };
        let clock = self.deps.clock.clone();
        let ended = async move { clock.sleep_until(end).await };
        let close = |(), this: &mut Self, ctx: &mut Ctx| this.close(CloseCode::Unauthenticated, ctx);
        self.expiry = Some(ctx.spawn(ended.into_actor(self).map(close)));
    }
}

fn other_user() -> WireError {
    WireError::of(ErrorCode::Forbidden, "the token is another user's")
}

fn auth_error(error: &AuthError) -> WireError {
    match error {
        AuthError::Missing | AuthError::Invalid | AuthError::Expired | AuthError::Revoked => {
            WireError::of(ErrorCode::Unauthenticated, error.to_string())
        }
        AuthError::Unavailable => WireError {
            after_ms: Some(RETRY_MS),
            ..WireError::of(ErrorCode::Storage, error.to_string())
        },
        AuthError::NoKey => WireError {
            after_ms: Some(RETRY_MS),
            ..WireError::of(ErrorCode::Upstream, error.to_string())
        },
    }
}

/// A time as clients read it.
pub(super) fn rfc3339(ms: Millis) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| NEVER.to_owned())
}
