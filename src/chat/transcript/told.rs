//! What events beside the text of messages do to the transcript. Pure.

use kronos_protocol::event::{ActivityDelta, Custom, RunFinished};
use kronos_protocol::{Event, Message, MessageId, Outcome, PatchOp};
use serde_json::Value;

use super::{News, Question, Queued, Transcript, Verdict};

/// The activity that tells how a call gets on.
const TOOL_PROGRESS: &str = "kronos.tool_progress";

impl Transcript {
    /// What a run that ends asks.
    pub(super) fn questions_of(&mut self, event: &RunFinished) {
        if let Some(Outcome::Interrupt { interrupts }) = &event.outcome {
            let calls = &self.calls;
            self.questions = interrupts
                .iter()
                .map(|interrupt| Question::read(interrupt, calls))
                .collect();
        }
    }

    /// What is about calls of tools.
    pub(super) fn call(&mut self, event: Event) -> Option<News> {
        match event {
            Event::ToolCallStart(event) => {
                if let Some(parent) = &event.parent_message_id {
                    self.paths.push(parent, false);
                }
                self.calls.start(&event.tool_call_id, &event.tool_call_name);
                None
            }
            Event::ToolCallArgs(event) => {
                self.calls.append(&event.tool_call_id, &event.delta);
                None
            }
            Event::ToolCallEnd(event) => self.calls.end(&event.tool_call_id),
            Event::ToolCallResult(event) => {
                self.paths.push(&event.message_id, false);
                self.calls.result(&event.tool_call_id, &event.content.text())
            }
            Event::ActivitySnapshot(event) if event.activity_type == TOOL_PROGRESS => {
                let word = |name: &str| event.content.get(name).and_then(Value::as_str);
                self.calls.status(word("toolCallId")?, word("status")?, None)
            }
            Event::ActivityDelta(event) if event.activity_type == TOOL_PROGRESS => {
                let call = event.message_id.as_str().strip_prefix("progress_")?.to_owned();
                self.calls.status(&call, &status(&event)?, None)
            }
            _ => None,
        }
    }

    /// What the server adds to AG-UI.
    pub(super) fn custom(&mut self, event: &Custom, news: &mut Vec<News>) {
        let word = |name: &str| event.value.get(name).and_then(Value::as_str);
        let id = |name: &str| word(name).and_then(|id| id.parse::<MessageId>().ok());
        match event.name.as_str() {
            "kronos.tool_calls" => {
                let calls = event.value.get("calls").and_then(Value::as_array);
                let unknown = calls
                    .into_iter()
                    .flatten()
                    .filter(|call| call.get("decision").and_then(Value::as_str) == Some("unknown"));
                for call in unknown {
                    let word = |name: &str| call.get(name).and_then(Value::as_str);
                    let id = word("toolCallId").unwrap_or_default();
                    news.extend(self.calls.status(id, "unknown", word("message")));
                }
            }
            "kronos.interrupt_answered" => news.extend(self.answered(&event.value)),
            "kronos.message_accepted" => self.accepted(&event.value),
            "kronos.message_unqueued" => {
                let taken = id("messageId").and_then(|id| self.take_from_queue(&id));
                news.extend(taken.map(|queued| News::Unqueued {
                    id: queued.id,
                    text: queued.text,
                }));
            }
            "kronos.queue_snapshot" => {
                let messages = event.value.get("messages").and_then(Value::as_array);
                self.queue = messages.into_iter().flatten().filter_map(queued).collect();
            }
            "kronos.branched" => {
                let after = id("after");
                let branch = word("branch").unwrap_or_default().to_owned();
                self.paths.branch(&branch, after.as_ref());
                self.questions.clear();
                news.push(News::Branched {
                    branch,
                    after: after.and_then(|id| self.shown.get(&id).cloned()),
                });
            }
            "kronos.branch_selected" => {
                let branch = word("branch").unwrap_or_default().to_owned();
                self.paths.choose(&branch);
                self.questions.clear();
                let last = self.paths.last_said().and_then(|id| self.shown.get(id).cloned());
                news.push(News::Selected { branch, last });
            }
            "kronos.settings_changed" => {
                let changed = event.value.as_object().cloned();
                news.extend(changed.map(|changed| News::Settings { changed }));
            }
            _ => news.extend(notice(event)),
        }
    }

    fn answered(&mut self, value: &Value) -> Option<News> {
        let verdict: Verdict = serde_json::from_value(value.clone()).ok()?;
        let call = verdict.tool_call_id.as_deref();
        let tool = call.and_then(|call| self.calls.tool(call)).map(str::to_owned);
        self.close(&verdict.interrupt_id);
        Some(News::Answered {
            tool: tool.unwrap_or_default(),
            verdict,
            own: false,
        })
    }

    fn accepted(&mut self, value: &Value) {
        let steers = value.get("mode").and_then(Value::as_str) == Some("steer");
        if let Some(message) = value.get("message").and_then(queued) {
            self.take_from_queue(&message.id);
            self.queue.push(Queued { steers, ..message });
        }
    }

    pub(super) fn take_from_queue(&mut self, id: &MessageId) -> Option<Queued> {
        let at = self.queue.iter().position(|queued| queued.id == *id)?;
        Some(self.queue.remove(at))
    }
}

/// The status that a change of a call's progress brings.
fn status(event: &ActivityDelta) -> Option<String> {
    event.patch.iter().find_map(|op| match op {
        PatchOp::Add { path, value } | PatchOp::Replace { path, value } if path.as_str() == "/status" => {
            value.as_str().map(str::to_owned)
        }
        _ => None,
    })
}

fn queued(message: &Value) -> Option<Queued> {
    match serde_json::from_value(message.clone()).ok()? {
        Message::User(user) => Some(Queued {
            text: user.content.text().into_owned(),
            id: user.id,
            steers: false,
        }),
        _ => None,
    }
}

fn notice(event: &Custom) -> Option<News> {
    let default = match event.name.as_str() {
        "kronos.notice" => None,
        "kronos.retry" => Some("trying again"),
        _ => return None,
    };
    let text = event.value.get("message").and_then(Value::as_str).or(default)?;
    Some(News::Notice { text: text.to_owned() })
}
