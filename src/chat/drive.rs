//! The loop between the user, the conversation and the connection.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use kronos_protocol::{AttachTarget, MessageId, SessionId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::address::Address;
use super::backoff::Backoff;
use super::command::{self, Line};
use super::conversation::{Conversation, Identity, Step};
use super::input::{Input, Keyboard};
use super::link::{Ended, Link, LinkEvent};
use super::rest::{self, Listed};
use super::screen::Screen;
use super::transcript::End;
use super::view::{Remark, View};

/// How long a client without a user in front of it tries to come back.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How long the user waits for a connection amid an answer before he may type the next line.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the new attempt of an interrupted turn is waited for before leaving.
const TRIED_AGAIN: Duration = Duration::from_secs(10);

/// Exit code: the answer came.
const ANSWERED: u8 = 0;

/// Exit code: the run failed, was cancelled, or asks something.
const NOT_ANSWERED: u8 = 1;

/// Exit code: no connection, or none any more.
pub(super) const NO_CONNECTION: u8 = 2;

/// Why the loop ends.
enum Leave {
    /// As it should, or with what the last run came to.
    Quietly(u8),
    /// With a line about what went wrong.
    Failed(String),
}

/// What there is to do, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A user sits in front of it.
    Interactive,
    /// Lines come from a file or a pipe.
    Script,
    /// What there is to say was said already.
    Once,
}

/// Everything that a chat consists of.
pub(super) struct Driver {
    address: Address,
    identity: Identity,
    purpose: Purpose,
    conversation: Conversation,
    view: View,
    screen: Screen,
    keyboard: Keyboard,
    interrupts: mpsc::Receiver<()>,
    link: Option<Link>,
    backoff: Backoff,
    /// Whether nothing more will be said.
    ended: bool,
    /// Whether the server was ever reached.
    reached: bool,
    /// When it was first found to be gone.
    gone_since: Option<Instant>,
    /// When to connect again.
    connect_at: Option<Instant>,
    /// When to send again what was refused for now.
    send_at: Option<Instant>,
    /// What the server asked to wait for.
    asked_to_wait: Option<Duration>,
    /// Until when the new attempt of an interrupted turn is waited for.
    leave_at: Option<Instant>,
    listing: Option<JoinHandle<anyhow::Result<Vec<Listed>>>>,
    listed: Vec<Listed>,
    /// Whether the running answer was told to stop.
    interrupted: bool,
}

/// What happened.
enum Happened {
    Link(LinkEvent),
    Input(Input),
    Signal,
    ConnectNow,
    SendNow,
    LeaveNow,
    Listed(anyhow::Result<Vec<Listed>>),
}

impl Driver {
    /// Returns what will talk to the server at `address`.
    pub(super) fn new(
        address: Address,
        identity: Identity,
        purpose: Purpose,
        conversation: Conversation,
        (view, screen, keyboard): (View, Screen, Keyboard),
    ) -> Self {
        Self {
            address,
            identity,
            purpose,
            conversation,
            view,
            screen,
            keyboard,
            interrupts: interrupts(),
            link: None,
            backoff: Backoff::default(),
            ended: purpose == Purpose::Once,
            reached: false,
            gone_since: None,
            connect_at: None,
            send_at: None,
            asked_to_wait: None,
            leave_at: None,
            listing: None,
            listed: Vec::new(),
            interrupted: false,
        }
    }

    fn is_interactive(&self) -> bool {
        self.purpose == Purpose::Interactive
    }

    /// Runs until the user leaves, or there is no point in going on.
    ///
    /// # Errors
    /// The output is gone.
    pub(super) async fn run(mut self) -> anyhow::Result<ExitCode> {
        self.link = Some(Link::open(&self.address));
        let leave = loop {
            if let Some(leave) = self.may_leave() {
                break leave;
            }
            self.ask_for_a_line()?;
            let happened = self.next().await;
            if let Some(leave) = self.handle(happened).await? {
                break leave;
            }
        };
        self.leave(leave).await
    }

    /// Lets the user type, unless an answer to him is on its way; one that a lost connection holds up for long is not.
    fn ask_for_a_line(&mut self) -> anyhow::Result<()> {
        let held_up = self.gone_since.is_some_and(|since| since.elapsed() < PATIENCE) && self.conversation.is_busy();
        let busy = held_up || self.conversation.is_opening() || self.conversation.is_answering();
        if self.ended || !self.reached || busy || self.keyboard.is_asked() {
            return Ok(());
        }
        if self.is_interactive() {
            let pieces = self.view.end_line();
            self.screen.print(pieces)?;
        }
        if self.keyboard.ask() {
            self.screen.editing();
        }
        Ok(())
    }

    /// Whether everything that was said is answered, and nothing more will be said.
    fn may_leave(&mut self) -> Option<Leave> {
        if !self.ended || self.conversation.is_busy() || !self.reached {
            self.leave_at = None;
            return None;
        }
        let outcome = self.conversation.outcome();
        if outcome.is_some_and(End::may_be_tried_again) {
            let until = *self.leave_at.get_or_insert_with(|| Instant::now() + TRIED_AGAIN);
            return (Instant::now() >= until).then_some(Leave::Quietly(NOT_ANSWERED));
        }
        let answered = self.is_interactive() || matches!(outcome, None | Some(End::Done));
        Some(Leave::Quietly(if answered { ANSWERED } else { NOT_ANSWERED }))
    }

    async fn next(&mut self) -> Happened {
        let asked = self.keyboard.is_asked() && !self.ended;
        let at = |instant: Option<Instant>| async move {
            match instant {
                Some(instant) => sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        let link = async {
            match &mut self.link {
                Some(link) => link.next().await,
                None => std::future::pending().await,
            }
        };
        let listing = async {
            match &mut self.listing {
                Some(listing) => listing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = link => Happened::Link(event),
            input = self.keyboard.next(), if asked => Happened::Input(input),
            Some(()) = self.interrupts.recv() => Happened::Signal,
            () = at(self.connect_at) => Happened::ConnectNow,
            () = at(self.send_at) => Happened::SendNow,
            () = at(self.leave_at) => Happened::LeaveNow,
            listed = listing => {
                Happened::Listed(listed.map_err(anyhow::Error::from).and_then(std::convert::identity))
            }
        }
    }

    async fn handle(&mut self, happened: Happened) -> anyhow::Result<Option<Leave>> {
        match happened {
            Happened::Link(LinkEvent::Opened) => {
                let steps = self.conversation.opened();
                self.perform(steps).await
            }
            Happened::Link(LinkEvent::Frame(frame)) => {
                let steps = self.conversation.received(*frame);
                self.perform(steps).await
            }
            Happened::Link(LinkEvent::Ended(ended)) => self.disconnected(ended).await,
            Happened::Input(input) => {
                self.screen.edited()?;
                self.input(input).await
            }
            Happened::Signal => self.interrupt().await,
            Happened::ConnectNow => {
                self.connect_at = None;
                self.link = Some(Link::open(&self.address));
                Ok(None)
            }
            Happened::SendNow => {
                self.send_at = None;
                let steps = self.conversation.send_pending();
                self.perform(steps).await
            }
            Happened::LeaveNow => Ok(None),
            Happened::Listed(listed) => {
                self.listing = None;
                self.show_list(listed)?;
                Ok(None)
            }
        }
    }

    async fn perform(&mut self, steps: Vec<Step>) -> anyhow::Result<Option<Leave>> {
        for step in steps {
            match step {
                Step::Send(frame) => {
                    if let Some(link) = &self.link {
                        link.send(&frame).await;
                    }
                }
                Step::News(news) => {
                    let pieces = self.view.news(&news);
                    self.screen.print(pieces)?;
                }
                Step::Remark(remark) => self.remark(&remark)?,
                Step::ShowAgain(id) => self.view.forget_typed(&id),
                Step::Healthy { ping } => {
                    self.reached = true;
                    self.gone_since = None;
                    self.asked_to_wait = None;
                    self.backoff.reset();
                    if let (Some(link), Some(ping)) = (&self.link, ping) {
                        link.pings_every(ping).await;
                    }
                }
                Step::ComeBack(after) => self.asked_to_wait = Some(after),
                Step::Reconnect(after) => {
                    self.link = None;
                    self.connect_at = Some(Instant::now() + after);
                    let lost = self.conversation.lost();
                    return Box::pin(self.perform(lost)).await;
                }
                Step::SendLater(after) => self.send_at = Some(Instant::now() + after),
                Step::Fail(why) => return Ok(Some(Leave::Failed(why))),
            }
        }
        Ok(None)
    }

    async fn disconnected(&mut self, ended: Ended) -> anyhow::Result<Option<Leave>> {
        self.link = None;
        if !ended.retry {
            return Ok(Some(Leave::Failed(ended.why)));
        }
        if !self.reached {
            let (url, why) = (self.address.shown(), ended.why);
            let hint = "is the server running? Start one with `kronos serve`, or name another with --url";
            return Ok(Some(Leave::Failed(format!("cannot connect to {url}: {why}; {hint}"))));
        }
        let since = *self.gone_since.get_or_insert_with(Instant::now);
        if !self.is_interactive() && since.elapsed() > GIVE_UP {
            return Ok(Some(Leave::Failed(format!(
                "the server did not come back within {GIVE_UP:?}: {}",
                ended.why
            ))));
        }
        let after = ended.after.or(self.asked_to_wait.take());
        self.connect_at = Some(Instant::now() + self.backoff.next(after, rand::random()));
        let steps = self.conversation.lost();
        self.perform(steps).await
    }

    async fn input(&mut self, input: Input) -> anyhow::Result<Option<Leave>> {
        let line = match input {
            Input::Line(line) => line,
            Input::Interrupt { empty: true } => return self.interrupt().await,
            Input::Interrupt { empty: false } => return Ok(None),
            Input::End if self.is_interactive() => return Ok(Some(Leave::Quietly(ANSWERED))),
            Input::End => {
                self.ended = true;
                return Ok(None);
            }
        };
        self.interrupted = false;
        // A script's lines are messages, whatever they begin with.
        let line = if self.is_interactive() {
            command::read(&line)
        } else {
            said(&line)
        };
        match line {
            Line::Empty => Ok(None),
            Line::Say(text) => {
                let id = mint()?;
                self.view.typed(id.clone());
                let steps = self.conversation.say(id, text);
                self.perform(steps).await
            }
            Line::New { title } => self.switch(AttachTarget::New { title, settings: None }).await,
            Line::Open(which) => self.open(&which).await,
            Line::List => {
                let call = rest::conversations(self.address.clone(), self.identity.token.clone());
                self.listing = Some(tokio::spawn(call));
                Ok(None)
            }
            Line::Help => self.block(command::HELP.to_owned()),
            Line::Wrong(text) => self.line(text),
            Line::Quit => Ok(Some(Leave::Quietly(ANSWERED))),
        }
    }

    /// Ctrl-C: stops the running answer; again, or with nothing to stop, leaves.
    async fn interrupt(&mut self) -> anyhow::Result<Option<Leave>> {
        if self.interrupted || !self.conversation.is_running() {
            return Ok(Some(Leave::Quietly(if self.is_interactive() {
                ANSWERED
            } else {
                NOT_ANSWERED
            })));
        }
        self.interrupted = true;
        let steps = self.conversation.cancel();
        self.perform(steps).await
    }

    async fn open(&mut self, which: &str) -> anyhow::Result<Option<Leave>> {
        let listed = which
            .parse::<usize>()
            .ok()
            .and_then(|number| self.listed.get(number.checked_sub(1)?));
        let id = listed.map_or(which, |listed| &listed.id).to_owned();
        match id.parse::<SessionId>() {
            Ok(session) => self.switch(AttachTarget::of(session)).await,
            Err(error) => self.line(error.to_string()),
        }
    }

    async fn switch(&mut self, target: AttachTarget) -> anyhow::Result<Option<Leave>> {
        if self.conversation.has_unsent() {
            return self.line("a message is still on its way; wait for it, or leave".to_owned());
        }
        let steps = self.conversation.switch(target);
        self.perform(steps).await
    }

    fn show_list(&mut self, listed: anyhow::Result<Vec<Listed>>) -> anyhow::Result<()> {
        match listed {
            Ok(listed) => {
                let lines: Vec<_> = (1..)
                    .zip(&listed)
                    .map(|(number, item)| format!("{number:>3}  {}", item.line()))
                    .collect();
                let text = if lines.is_empty() {
                    "no conversations".to_owned()
                } else {
                    lines.join("\n")
                };
                self.listed = listed;
                self.line(text)?;
            }
            Err(error) => self.remark(&Remark::Line(format!("no list: {error:#}")))?,
        }
        Ok(())
    }

    fn line(&mut self, text: String) -> anyhow::Result<Option<Leave>> {
        self.remark(&Remark::Line(text))?;
        Ok(None)
    }

    fn block(&mut self, text: String) -> anyhow::Result<Option<Leave>> {
        self.remark(&Remark::Block(text))?;
        Ok(None)
    }

    fn remark(&mut self, remark: &Remark) -> anyhow::Result<()> {
        let mut pieces = self.view.remarked(remark);
        if self.is_interactive() && self.keyboard.is_asked() {
            // Above a line that is edited only whole lines can stand.
            pieces.extend(self.view.end_remark());
        }
        self.screen.print(pieces).context("the output is gone")
    }

    async fn leave(mut self, leave: Leave) -> anyhow::Result<ExitCode> {
        let pieces = self.view.end_line();
        self.screen.print(pieces)?;
        let code = match leave {
            Leave::Quietly(code) => code,
            Leave::Failed(why) => {
                self.remark(&Remark::Line(why))?;
                if self.is_interactive() && self.keyboard.is_asked() {
                    // The thread that edits the line has the terminal in raw mode, and only a key ends that.
                    self.remark(&Remark::Line("press Enter to leave".to_owned()))?;
                    self.keyboard.next().await;
                }
                NO_CONNECTION
            }
        };
        if let Some(link) = self.link.take() {
            link.close().await;
        }
        Ok(ExitCode::from(code))
    }
}

fn said(line: &str) -> Line {
    match line.trim() {
        "" => Line::Empty,
        text => Line::Say(text.to_owned()),
    }
}

/// Returns each Ctrl-C. A task listens all the time: a listener that comes and goes would miss some.
fn interrupts() -> mpsc::Receiver<()> {
    let (outbox, interrupts) = mpsc::channel(4);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if outbox.send(()).await.is_err() {
                break;
            }
        }
    });
    interrupts
}

/// Makes the id of a message: the server takes the same one twice for the same message.
pub(super) fn mint() -> anyhow::Result<MessageId> {
    format!("m_{:032x}", rand::random::<u128>())
        .parse()
        .context("a message id")
}
