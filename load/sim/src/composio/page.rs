//! Pages: `limit` and `cursor` in, `items`, `next_cursor` and totals out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call::Call;
use super::error::{Answer, ApiError, Reply};

const USUAL: usize = 20;

/// Where the limits of the lists are.
pub(crate) const AUTH_CONFIGS: usize = 200;
/// The largest page of most lists.
pub(crate) const MAX: usize = 1000;

/// Answers with the page that the query asks for; a limit beyond `max` is lowered.
pub(crate) fn page(call: &Call<'_>, items: &[Value], max: usize) -> Reply {
    let limit = call.query.get("limit").map(parse).transpose()?.unwrap_or(USUAL);
    let cursor = call.query.get("cursor").map(str::to_owned);
    window(items, limit, cursor.as_deref(), max)
}

/// The same with `limit` and `cursor` in the body.
pub(crate) fn page_of_body(call: &Call<'_>, items: &[Value], max: usize) -> Reply {
    let limit = call.body["limit"]
        .as_u64()
        .and_then(|limit| usize::try_from(limit).ok());
    let cursor = call.optional("/cursor");
    window(items, limit.unwrap_or(USUAL), cursor.as_deref(), max)
}

fn window(items: &[Value], limit: usize, cursor: Option<&str>, max: usize) -> Reply {
    let limit = limit.clamp(1, max);
    let page = cursor.map(number).transpose()?.unwrap_or(1).max(1);
    let start = (page - 1).saturating_mul(limit);
    let pages = items.len().div_ceil(limit).max(1);
    let shown: Vec<&Value> = items.iter().skip(start).take(limit).collect();
    let next = (page < pages).then(|| STANDARD.encode(format!("{}-{limit}", page + 1)));
    Ok(Answer::ok(json!({
        "items": shown, "next_cursor": next, "total_items": items.len(), "total_pages": pages, "current_page": page,
    })))
}

fn parse(text: &str) -> Result<usize, ApiError> {
    let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates and the number is not negative"
    )]
    let number = number.map(|number| number as usize);
    number.ok_or_else(|| ApiError::bad_body(vec!["limit: Expected number".to_owned()]))
}

/// Reads a cursor: base64 of `page-limit`, or the plain number of a page.
fn number(cursor: &str) -> Result<usize, ApiError> {
    let decoded = STANDARD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let coded = decoded.and_then(|text| text.split_once('-')?.0.parse().ok());
    coded
        .or_else(|| cursor.parse().ok())
        .ok_or_else(|| ApiError::bad_body(vec!["cursor: Invalid cursor".to_owned()]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::window;

    #[test]
    fn cursors_lead_through_all_items_once() {
        let items: Vec<Value> = (0..7).map(|at| json!(at)).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = window(&items, 3, cursor.as_deref(), 1000)
                .map(|answer| answer.body)
                .unwrap_or_default();
            seen.extend(page["items"].as_array().cloned().unwrap_or_default());
            assert_eq!((&page["total_items"], &page["total_pages"]), (&json!(7), &json!(3)));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, items);
    }

    #[test]
    fn a_page_may_be_named_by_its_number_and_a_limit_is_lowered() {
        let items: Vec<Value> = (0..5).map(|at| json!(at)).collect();
        let page = |limit, cursor| {
            window(&items, limit, cursor, 2)
                .map(|answer| answer.body["items"].clone())
                .ok()
        };
        assert_eq!(page(9999, None), Some(json!([0, 1])));
        assert_eq!(page(9999, Some("3")), Some(json!([4])));
        assert_eq!(page(0, Some("2")), Some(json!([1])));
        assert_eq!(page(1, Some("nonsense")), None);
    }
}
