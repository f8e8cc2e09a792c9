//! Pages of what lives in memory: in the order of the ids, so that what comes and goes between two pages moves nothing else.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kronos_actors::directory::{
    DirectoryRef,
    observe::{SeenSession, Standing},
};
use kronos_protocol::ids::{SessionId, UserId};

use crate::edge::input::{Fields, field};

/// Items of a page, and most of them.
const PAGE: u64 = 50;
const MAX_PAGE: u64 = 100;

/// Longest cursor that is looked at, in characters.
const CURSOR_CHARS: usize = 1024;

/// Sessions that are asked at once.
const AT_ONCE: usize = 256;

/// A page ends before it is full when it took so many times what one may take to answer: a filter may meet few of many.
const PATIENCE: u32 = 4;

/// Which page is wanted.
pub(super) struct Paging {
    pub(super) limit: usize,
    /// The id of the last item before the page.
    pub(super) after: Option<String>,
}

impl Paging {
    /// Reads it from the query.
    pub(super) fn read(fields: &mut Fields) -> Self {
        let about = field("limit").doc("Items of a page; 50 when it is left out");
        let limit = fields.integer(about, 1, MAX_PAGE).unwrap_or(PAGE);
        let cursor = fields.text(field("cursor").doc("`next_cursor` of the page before"), 1, CURSOR_CHARS);
        let after = cursor.and_then(|cursor| {
            let after = decode(&cursor);
            if after.is_none() {
                fields.refuse("cursor", "Not a cursor of this list", "value_error");
            }
            after
        });
        Self {
            limit: usize::try_from(limit).unwrap_or(1),
            after,
        }
    }
}

/// The cursor behind an item, opaque to clients.
pub(super) fn encode(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

fn decode(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// Cuts what is more than a page off; returns the cursor of the next when there was more.
pub(super) fn cut<T>(items: &mut Vec<T>, limit: usize, id: impl Fn(&T) -> &str) -> Option<String> {
    let more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| more).map(|last| encode(id(last)))
}

/// Which sessions are wanted.
pub(super) struct Wanted<F> {
    pub(super) paging: Paging,
    pub(super) user: Option<UserId>,
    /// Beyond that.
    pub(super) and: F,
}

/// A page of sessions and the cursor of the next.
pub(super) async fn sessions(
    directory: &DirectoryRef,
    wanted: Wanted<impl Fn(&SeenSession) -> bool>,
    limit: Duration,
) -> (Vec<SeenSession>, Option<String>) {
    let Wanted { paging, user, and } = wanted;
    let all = directory.known_sessions();
    let from = all.partition_point(|id| paging.after.as_deref().is_some_and(|after| id.as_str() <= after));
    let until = tokio::time::Instant::now() + limit * PATIENCE;
    let mut found: Vec<SeenSession> = Vec::new();
    let mut rest = &all[from..];
    while !rest.is_empty() && found.len() <= paging.limit {
        // Without a filter, no more are asked than the page needs.
        let missing = paging.limit + 1 - found.len();
        let (now, later) = rest.split_at(rest.len().min(missing.max(if user.is_some() { AT_ONCE } else { 1 })));
        let looked = directory.look_at(now, limit).await;
        found.extend(looked.into_iter().filter(|seen| {
            let of_user = user.as_ref().is_none_or(|user| seen.owner.as_ref() == Some(user));
            of_user && and(seen)
        }));
        rest = later;
        if tokio::time::Instant::now() >= until && !rest.is_empty() && found.len() <= paging.limit {
            let last = now.last().map(|id: &SessionId| encode(id.as_str()));
            return (found, last);
        }
    }
    let next = cut(&mut found, paging.limit, |seen| seen.session.as_str());
    (found, next)
}

/// The word of where a session is.
pub(super) const fn state(standing: &Standing) -> &'static str {
    match standing {
        Standing::Live { .. } => "live",
        Standing::Asleep { .. } => "asleep",
        Standing::Parked(_) => "parked",
    }
}

/// A time as clients read it: whole milliseconds.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        assert_eq!(decode(&encode("0192-ä")).as_deref(), Some("0192-ä"));
        for bad in ["!!", "w", "_w"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_page_is_cut_where_there_is_more() {
        for (count, next) in [(0, None), (1, None), (2, None), (3, Some(encode("1")))] {
            let mut items: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            assert_eq!(cut(&mut items, 2, |item| item), next, "{count}");
            assert_eq!(items.len(), count.min(2));
        }
    }
}
