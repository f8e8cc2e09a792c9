//! The loop between the user, the conversation and the connection.

mod asking;
mod commands;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use kronos_protocol::{AttachTarget, InterruptId, MessageId, SendMode, SessionId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::address::Address;
use super::backoff::Backoff;
use super::command::{self, Line};
use super::conversation::{Conversation, Identity, Step};
use super::input::{Input, Keyboard};
use super::link::{Ended, Link, LinkEvent};
use super::link_to::Link as Page;
use super::rest::{self, Fetched, Listed, Note};
use super::screen::Screen;
use super::transcript::End;
use super::view::{Piece, Remark, View};
use asking::Asking;
pub(super) use asking::Policy;

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
    policy: Policy,
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
    fetching: Option<JoinHandle<anyhow::Result<Fetched>>>,
    listed: Vec<Listed>,
    /// What was remembered when it was listed last.
    notes: Vec<Note>,
    /// The branches and the queue as they were listed last.
    branches: Vec<String>,
    queued: Vec<MessageId>,
    /// Questions that were shown, or answered as the flags say.
    seen: HashSet<InterruptId>,
    /// The question that the user is asked.
    asking: Option<Asking>,
    /// The question that the edited line was asked for.
    line_for: Option<Asking>,
    /// The question that was answered last, with what was typed: the answer may be refused.
    refused: Option<Asking>,
    /// What the next line begins with.
    prefill: String,
    /// A page that Enter opens.
    page: Option<Page>,
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
    Fetched(anyhow::Result<Fetched>),
}

impl Driver {
    /// Returns what will talk to the server at `address`.
    pub(super) fn new(
        address: Address,
        identity: Identity,
        (purpose, policy): (Purpose, Policy),
        conversation: Conversation,
        (view, screen, keyboard): (View, Screen, Keyboard),
    ) -> Self {
        Self {
            address,
            identity,
            purpose,
            policy,
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
            fetching: None,
            listed: Vec::new(),
            notes: Vec::new(),
            branches: Vec::new(),
            queued: Vec::new(),
            seen: HashSet::new(),
            asking: None,
            line_for: None,
            refused: None,
            prefill: String::new(),
            page: None,
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
            if let Some(leave) = self.attend().await? {
                break leave;
            }
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
        // While a tool works there is time to type; what comes meanwhile stands above the line.
        let calling = self.is_interactive() && self.conversation.is_calling();
        let answering = self.conversation.is_answering() && !calling;
        let busy = held_up && !calling || self.conversation.is_opening() || answering;
        if self.ended || !self.reached || busy || self.keyboard.is_asked() {
            return Ok(());
        }
        if self.is_interactive() {
            let pieces = self.view.end_line();
            self.screen.print(pieces)?;
        }
        let initial = self.initial();
        if self.keyboard.ask(initial) {
            self.line_for.clone_from(&self.asking);
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
        let fetching = async {
            match &mut self.fetching {
                Some(fetching) => fetching.await,
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
            fetched = fetching => {
                Happened::Fetched(fetched.map_err(anyhow::Error::from).and_then(std::convert::identity))
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
                let mut steps = self.conversation.send_pending();
                steps.extend(self.conversation.answer_again());
                self.perform(steps).await
            }
            Happened::LeaveNow => Ok(None),
            Happened::Fetched(fetched) => {
                self.fetching = None;
                self.fetched(fetched)
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
        let asked_for = self.line_for.take();
        let line = match input {
            Input::Line(line) => line,
            Input::Interrupt { .. } if self.gave_up_typing(asked_for.as_ref()) => return Ok(None),
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
        if !self.is_interactive() {
            return self.obey(said(&line)).await;
        }
        if asked_for.is_some() || self.asking.is_some() {
            return self.typed_at_a_question(asked_for, line).await;
        }
        self.obey(command::read(&line)).await
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

    fn line(&mut self, text: String) -> anyhow::Result<Option<Leave>> {
        self.remark(&Remark::Line(text))?;
        Ok(None)
    }

    fn block(&mut self, text: String) -> anyhow::Result<Option<Leave>> {
        self.remark(&Remark::Block(text))?;
        Ok(None)
    }

    fn remark(&mut self, remark: &Remark) -> anyhow::Result<()> {
        let pieces = self.view.remarked(remark);
        self.print(pieces)
    }

    fn print(&mut self, mut pieces: Vec<Piece>) -> anyhow::Result<()> {
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
