//! `current_time`: what the model cannot know.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::clock::Millis;

/// Returns the time in a zone of the IANA database, UTC when none is named.
///
/// # Errors
/// A sentence for the model.
pub(super) fn current_time(now_ms: Millis, zone: Option<&str>) -> Result<Value, String> {
    let name = zone.unwrap_or("UTC");
    let zone = TimeZone::get(name).map_err(|_unknown| {
        "there is no such time zone: give a name of the IANA database, such as Europe/Zurich".to_owned()
    })?;
    let instant =
        Timestamp::from_millisecond(now_ms).map_err(|_range| "the clock of this server is wrong".to_owned())?;
    let now = instant.to_zoned_datetime(zone);
    let name = now.time_zone().iana_name().unwrap_or("UTC");
    Ok(json!({
        "time": now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        "weekday": now.strftime("%A").to_string(),
        "timezone": name,
    }))
}
