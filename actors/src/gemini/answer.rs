//! Puts the chunks of one attempt together: what to show, what to send back in later turns, how it ended.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::failure::Failure;
use super::finish::{self, Ending};
use super::wire::{Chunk, FUNCTION_CALL, Part, SIGNATURE};
use super::{Finished, FunctionCall, Progress, Usage};

/// What a call that waits counts for: arguments have a few hundred bytes.
const CALL_BYTES: usize = 512;

/// The answer of one attempt so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Parts that are complete.
    parts: Vec<Value>,
    /// Unsigned text that may still grow.
    text: String,
    usage: Usage,
    model: Option<String>,
    response_id: Option<String>,
    finish_reason: Option<String>,
    /// Something to read or to do came: text that is not empty, or a call.
    has_content: bool,
    /// What to show, and was not taken yet: neighbours of a kind are one.
    outbox: VecDeque<Progress>,
    /// Bytes of text in it, and what calls count for.
    waiting_bytes: usize,
}

impl Answer {
    /// Takes one event: one chunk, or several behind each other.
    ///
    /// # Errors
    /// The event says that the request failed, or is no chunk. What came before it is kept.
    pub(crate) fn take_event(&mut self, event: &[u8]) -> Result<(), Failure> {
        // Looked at once as a whole: as bytes each key and each text would be looked at by itself.
        let (text, rest) = match str::from_utf8(event) {
            Ok(text) => (text, &[][..]),
            Err(error) => {
                let (sound, rest) = event.split_at(error.valid_up_to());
                (str::from_utf8(sound).unwrap_or_default(), rest)
            }
        };
        for chunk in serde_json::Deserializer::from_str(text).into_iter::<Chunk<'_>>() {
            // The parser's text repeats what it read.
            let Ok(chunk) = chunk else {
                return Err(Failure::unreadable());
            };
            self.take_chunk(chunk)?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Failure::unreadable())
        }
    }

    /// Takes out the next thing to show: everything of its kind that came since the last time.
    pub(crate) fn next_shown(&mut self) -> Option<Progress> {
        let next = self.outbox.pop_front()?;
        let bytes = match &next {
            Progress::Delta { text, .. } | Progress::Thought { text } => text.len(),
            Progress::Call(_) => CALL_BYTES,
            _ => 0,
        };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        Some(next)
    }

    /// Returns how many bytes of text wait to be shown.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether the model has said that it is done.
    pub(crate) fn is_finished(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// Decides what the answer is, now that its stream has ended.
    ///
    /// # Errors
    /// It is none: refused, empty, or without an end.
    pub(crate) fn finish(mut self, asked_model: &str) -> Result<Finished, Failure> {
        let finish_reason = self.finish_reason.take().ok_or_else(Failure::broken)?;
        let truncated = match finish::ending(&finish_reason) {
            Ending::Complete if !self.has_content => {
                return Err(Failure {
                    reason: Some(finish_reason),
                    ..Failure::empty()
                });
            }
            Ending::Complete => false,
            Ending::Truncated => true,
            Ending::Failed(failure) => return Err(failure),
        };
        self.close_text();
        if truncated {
            // A call that was cut off, or whose siblings are missing, must not be made.
            self.parts.retain(|part| part.get(FUNCTION_CALL).is_none());
        }
        Ok(Finished {
            finish_reason,
            truncated,
            usage: self.usage,
            parts: self.parts,
            model: self.model.unwrap_or_else(|| asked_model.to_owned()),
            response_id: self.response_id,
        })
    }

    fn take_chunk(&mut self, chunk: Chunk<'_>) -> Result<(), Failure> {
        if let Some(error) = chunk.error {
            return Err(Failure::in_stream(&error));
        }
        let usage = chunk.usage_metadata.map(Usage::from);
        if let Some(usage) = usage {
            self.usage = usage;
        }
        if let (None, Some(model)) = (&self.model, chunk.model_version) {
            self.model = Some(model.0.into_owned());
        }
        if let (None, Some(id)) = (&self.response_id, chunk.response_id) {
            self.response_id = Some(id.0.into_owned());
        }
        if let Some(reason) = chunk.prompt_feedback.and_then(|feedback| feedback.block_reason) {
            return Err(finish::prompt_blocked(&reason.0));
        }
        let Some(candidate) = chunk.candidates.0 else {
            return Ok(());
        };
        for part in candidate
            .content
            .and_then(|content| content.parts)
            .into_iter()
            .flatten()
        {
            self.take_part(part, usage);
        }
        if let Some(reason) = candidate.finish_reason {
            self.finish_reason = Some(reason.0.into_owned());
        }
        Ok(())
    }

    fn take_part(&mut self, part: Part, usage: Option<Usage>) {
        let shown = part.text.as_deref().filter(|text| !text.is_empty());
        if part.thought {
            if let Some(text) = shown {
                self.show_thought(text);
            }
            if part.other.contains_key(SIGNATURE) {
                let _new = self.keep(part.into_value());
            }
            return;
        }
        if part.other.contains_key(FUNCTION_CALL) {
            self.take_call(part.into_value());
        } else if !part.other.is_empty() {
            self.has_content |= shown.is_some() || part.other.keys().any(|key| key != SIGNATURE);
            if let Some(text) = shown {
                self.show(text.to_owned(), usage);
            }
            let _new = self.keep(part.into_value());
        } else if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            self.has_content = true;
            self.text.push_str(&text);
            self.show(text, usage);
        }
    }

    /// Announces and keeps a call. One that names no function is none.
    fn take_call(&mut self, part: Value) {
        let Some(call) = FunctionCall::of_part(&part) else {
            return;
        };
        self.has_content = true;
        if self.keep(part) {
            self.waiting_bytes += CALL_BYTES;
            self.outbox.push_back(Progress::Call(call));
        }
    }

    /// Shows text; what waits already and this are one delta.
    fn show(&mut self, more: String, tokens: Option<Usage>) {
        self.waiting_bytes += more.len();
        match self.outbox.back_mut() {
            Some(Progress::Delta { text, usage }) => {
                text.push_str(&more);
                *usage = tokens.or(*usage);
            }
            _ => self.outbox.push_back(Progress::Delta {
                text: more,
                usage: tokens,
            }),
        }
    }

    fn show_thought(&mut self, more: &str) {
        self.waiting_bytes += more.len();
        match self.outbox.back_mut() {
            Some(Progress::Thought { text }) => text.push_str(more),
            _ => self.outbox.push_back(Progress::Thought { text: more.to_owned() }),
        }
    }

    /// Keeps a part as it came; says whether it is new. Of a call that is repeated, the signed one counts.
    fn keep(&mut self, part: Value) -> bool {
        let id = part[FUNCTION_CALL]["id"].as_str();
        let same = |kept: &&mut Value| id.is_some() && kept[FUNCTION_CALL]["id"].as_str() == id;
        if let Some(kept) = self.parts.iter_mut().find(same) {
            if kept.get(SIGNATURE).is_none() {
                *kept = part;
            }
            return false;
        }
        self.close_text();
        self.parts.push(part);
        true
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.parts.push(json!({"text": std::mem::take(&mut self.text)}));
        }
    }
}

#[cfg(test)]
mod tests {
    use kronos_protocol::error::RunErrorCode;

    use super::*;

    fn parts(parts: Value) -> Value {
        json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}]})
    }

    fn end(reason: &str) -> Value {
        json!({"candidates": [{"content": {}, "finishReason": reason}]})
    }

    fn answer(chunks: &[Value]) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        chunks
            .iter()
            .try_for_each(|chunk| answer.take_event(chunk.to_string().as_bytes()))?;
        Ok(answer)
    }

    fn finished(chunks: &[Value]) -> Result<Finished, Failure> {
        answer(chunks)?.finish("asked")
    }

    fn shown(answer: &mut Answer) -> Vec<String> {
        let next = || answer.next_shown();
        let shown = std::iter::from_fn(next).map(|progress| match progress {
            Progress::Thought { text } => format!("thought {text}"),
            Progress::Delta { text, .. } => text,
            Progress::Call(call) => format!("call {}", call.name),
            other => panic!("{other:?}"),
        });
        shown.collect()
    }

    #[test]
    fn what_waits_is_put_together_and_counted() {
        let usage = |tokens: u64| {
            let mut chunk = parts(json!([{"text": "ab"}]));
            chunk["usageMetadata"] = json!({"candidatesTokenCount": tokens});
            chunk
        };
        let thought = parts(json!([{"text": "t", "thought": true}]));
        let mut answer = answer(&[thought.clone(), thought, usage(1), usage(2)]).unwrap();
        assert_eq!(answer.waiting_bytes(), 6);
        assert!(matches!(answer.next_shown(), Some(Progress::Thought { text }) if text == "tt"));
        assert_eq!(answer.waiting_bytes(), 4);
        let next = answer.next_shown();
        assert!(
            matches!(&next, Some(Progress::Delta { text, usage: Some(usage) }) if text == "abab" && usage.answer == 2),
            "with the newest usage: {next:?}"
        );
        assert_eq!(answer.waiting_bytes(), 0);
        assert!(answer.next_shown().is_none());
    }

    #[test]
    fn unsigned_text_is_merged_and_signed_parts_stay_as_they_came() {
        let signed_text = json!({"text": "c", "thoughtSignature": "1"});
        let call = json!({"functionCall": {"id": "x", "name": "f", "args": {}}, "thoughtSignature": "2"});
        let closing = json!({"text": "", "thoughtSignature": "3"});
        let done = finished(&[
            parts(json!([{"text": "a"}])),
            parts(json!([{"text": "b"}])),
            parts(json!([signed_text])),
            parts(json!([{"text": "d"}, {"text": ""}, {"text": "e"}])),
            parts(json!([call])),
            parts(json!([closing])),
            end("STOP"),
        ])
        .unwrap();
        assert_eq!(
            done.parts,
            [json!({"text": "ab"}), signed_text, json!({"text": "de"}), call, closing]
        );
        assert!(!done.truncated);
        assert_eq!(done.model, "asked");
    }

    #[test]
    fn thoughts_are_shown_and_only_signed_ones_kept() {
        let signed = json!({"text": "t2", "thought": true, "thoughtSignature": "s"});
        let mut answer = answer(&[
            parts(json!([{"text": "t1", "thought": true}])),
            parts(json!([signed])),
            parts(json!([{"text": "a"}])),
            end("STOP"),
        ])
        .unwrap();
        assert_eq!(shown(&mut answer), ["thought t1t2", "a"]);
        assert_eq!(answer.finish("m").unwrap().parts, [signed, json!({"text": "a"})]);
    }

    #[test]
    fn a_repeated_call_keeps_the_signature_whichever_comes_first() {
        let signed = json!({"functionCall": {"id": "x", "name": "f"}, "thoughtSignature": "s"});
        let plain = json!({"functionCall": {"id": "x", "name": "f"}});
        for pair in [[&signed, &plain], [&plain, &signed]] {
            let done = finished(&[parts(json!([pair[0]])), parts(json!([pair[1]])), end("STOP")]).unwrap();
            assert_eq!(done.parts, std::slice::from_ref(&signed));
        }
        let without_id = json!({"functionCall": {"name": "f"}});
        let done = finished(&[parts(json!([without_id, without_id])), end("STOP")]).unwrap();
        assert_eq!(done.parts.len(), 2, "parallel calls without ids are two");
    }

    #[test]
    fn an_answer_without_text_or_call_is_empty() {
        for nothing in [
            vec![end("STOP")],
            vec![parts(json!([])), end("STOP")],
            vec![parts(json!([{"text": ""}])), end("STOP")],
            vec![parts(json!([{"text": "", "thoughtSignature": "s"}])), end("STOP")],
            vec![parts(json!([{"text": "thinking", "thought": true}])), end("STOP")],
            vec![json!({"candidates": [{"finishReason": "STOP"}]})],
        ] {
            assert_eq!(
                finished(&nothing).unwrap_err().code,
                RunErrorCode::EmptyAnswer,
                "{nothing:?}"
            );
        }
    }

    #[test]
    fn a_cut_off_answer_is_truncated_and_makes_no_calls() {
        let done = finished(&[
            parts(json!([{"text": "a"}, {"functionCall": {"name": "f"}}])),
            end("MAX_TOKENS"),
        ])
        .unwrap();
        assert!(done.truncated);
        assert_eq!(done.parts, [json!({"text": "a"})]);
        assert!(finished(&[end("MAX_TOKENS")]).unwrap().parts.is_empty());
    }

    #[test]
    fn a_stream_without_a_reason_is_broken() {
        assert_eq!(finished(&[]).unwrap_err().code, RunErrorCode::StreamBroken);
        assert_eq!(
            finished(&[parts(json!([{"text": "a"}]))]).unwrap_err().code,
            RunErrorCode::StreamBroken
        );
    }

    #[test]
    fn an_error_chunk_and_a_blocked_prompt_end_it() {
        let error = answer(&[json!({"error": {"code": 503, "status": "UNAVAILABLE"}})]).unwrap_err();
        assert_eq!(
            (error.code, error.status),
            (RunErrorCode::UpstreamUnavailable, Some(503))
        );
        let blocked = answer(&[json!({"promptFeedback": {"blockReason": "SAFETY"}})]).unwrap_err();
        assert_eq!(
            (blocked.code, blocked.reason.as_deref()),
            (RunErrorCode::Blocked, Some("SAFETY"))
        );
    }

    #[test]
    fn what_is_shown_before_an_error_in_the_same_event_is_kept() {
        let mut answer = Answer::default();
        let event = format!("{}\n{}", parts(json!([{"text": "a"}])), json!({"error": {"code": 500}}));
        assert!(answer.take_event(event.as_bytes()).is_err());
        assert_eq!(shown(&mut answer), ["a"]);
    }

    #[test]
    fn the_last_usage_counts() {
        let with = |answer: u64| {
            json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}],
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": answer, "totalTokenCount": 9 + answer}})
        };
        let done = finished(&[with(1), with(2), end("STOP")]).unwrap();
        assert_eq!(
            done.usage,
            Usage {
                prompt: 9,
                answer: 2,
                total: 11,
                ..Usage::default()
            }
        );
    }

    #[test]
    fn nulls_and_odd_shapes_are_read() {
        let nulls = json!({"candidates": null, "promptFeedback": null, "usageMetadata": null, "modelVersion": null,
            "error": null, "new": 1});
        let done = finished(&[
            nulls,
            json!({"promptFeedback": {}}),
            parts(json!([{"text": "a"}])),
            end("STOP"),
        ])
        .unwrap();
        assert_eq!(done.parts, [json!({"text": "a"})]);
        let mut answer = Answer::default();
        let garbage = [
            &b"{\"candidates\": ["[..],
            b"nope",
            b"[1]",
            b"\xff",
            b"{\"candidates\": 1}",
        ];
        assert!(garbage.iter().all(|event| answer.take_event(event).is_err()));
    }
}
