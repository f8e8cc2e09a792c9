//! Scripts: what the next requests meet instead of the usual answer.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::script::ScriptedError;

/// One scripted step. It waits for `times` requests that fit and is then gone.
///
/// `tool` limits it to executions of that tool (a `*` at the end stands for any rest), `path` to paths that contain it;
/// without both any request of the API fits. The first of `fault`, `error`, `result` that is set counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComposioScript {
    /// Slug of the tool whose executions fit, or a beginning of one and `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// A part of the path, such as `/connected_accounts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Requests that fit but pass unharmed first. Default 0.
    pub skip: u32,
    /// Requests it applies to. Default 1.
    pub times: u32,
    /// Faults in the words of the README, such as `hang-after-effect` or `429;retry_after=2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// An HTTP error with its body; the request has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ScriptedError>,
    /// What the tool answers; its effect is counted as usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ToolResult>,
}

/// The answer of a tool as a script gives it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolResult {
    /// The result.
    pub data: Value,
    /// Why it failed; a result without it is successful.
    pub error: Option<String>,
}

impl Default for ComposioScript {
    fn default() -> Self {
        Self {
            tool: None,
            path: None,
            skip: 0,
            times: 1,
            fault: None,
            error: None,
            result: None,
        }
    }
}

impl ComposioScript {
    /// Makes a step that fails in the words of the README.
    #[must_use]
    pub fn fault(words: &str) -> Self {
        Self {
            fault: Some(words.to_owned()),
            ..Self::default()
        }
    }

    /// Makes a step that answers with one HTTP error.
    #[must_use]
    pub fn error(status: u16, body: Option<Value>) -> Self {
        Self {
            error: Some(ScriptedError {
                status,
                body,
                ..ScriptedError::default()
            }),
            ..Self::default()
        }
    }

    /// Makes a step that gives the result of a tool.
    #[must_use]
    pub fn result(data: Value) -> Self {
        Self {
            result: Some(ToolResult { data, error: None }),
            ..Self::default()
        }
    }

    /// Limits the step to executions of one tool.
    #[must_use]
    pub fn on(mut self, tool: &str) -> Self {
        self.tool = Some(tool.to_owned());
        self
    }

    /// Limits the step to paths that contain `path`.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Applies the step to several requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn fits(&self, path: &str, tool: Option<&str>) -> bool {
        let right_tool = self.tool.as_deref().is_none_or(|wanted| {
            let beginning = wanted.strip_suffix('*');
            tool.is_some_and(|tool| beginning.map_or(tool == wanted, |beginning| tool.starts_with(beginning)))
        });
        right_tool && self.path.as_deref().is_none_or(|part| path.contains(part))
    }
}

/// The steps that still wait.
#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: VecDeque<ComposioScript>,
}

impl Script {
    pub(crate) fn push(&mut self, steps: Vec<ComposioScript>) {
        self.steps.extend(steps);
    }

    pub(crate) fn clear(&mut self) {
        self.steps.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Takes what the first fitting step says about this request.
    pub(crate) fn next(&mut self, path: &str, tool: Option<&str>) -> Option<ComposioScript> {
        let at = self.steps.iter().position(|step| step.fits(path, tool))?;
        let step = self.steps.get_mut(at)?;
        if step.skip > 0 {
            step.skip -= 1;
            return None;
        }
        step.times = step.times.saturating_sub(1);
        if step.times > 0 {
            return Some(step.clone());
        }
        self.steps.remove(at)
    }
}
