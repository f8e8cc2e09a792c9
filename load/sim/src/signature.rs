//! Signatures of function calls: made with a call, checked when it comes back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::random;

/// What the bytes of the simulator's own signatures begin with.
const OWN: &[u8] = b"sim-call-";
/// What a client may send for a call that another model made.
const BYPASS: &[&str] = &[
    "skip_thought_signature_validator",
    "context_engineering_is_the_way_to_go",
];

/// Returns the signature of a functionCall.
pub(crate) fn of_call(call: &Value) -> String {
    STANDARD.encode([OWN, &fingerprint(call).to_be_bytes()].concat())
}

/// Says whether `signature` may come with this functionCall: it is the call's own, or one of another server.
pub(crate) fn fits(signature: &str, call: &Value) -> bool {
    if BYPASS.contains(&signature) {
        return true;
    }
    let standard = signature.replace('-', "+").replace('_', "/");
    let Ok(bytes) = STANDARD.decode(&standard) else {
        return false;
    };
    match bytes.strip_prefix(OWN) {
        Some(_) => signature == of_call(call),
        None => !bytes.is_empty(),
    }
}

fn fingerprint(call: &Value) -> u64 {
    let args = call["args"].as_object().filter(|args| !args.is_empty());
    let args = args
        .map(|args| Value::Object(args.clone()).to_string())
        .unwrap_or_default();
    random::hash(0, &format!("{} {args}", call["name"].as_str().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_signature_fits_its_own_call_only() {
        let call = json!({"name": "f", "args": {"a": 1}, "id": "1"});
        let own = of_call(&call);
        assert!(fits(&own, &call));
        assert!(!fits(&own, &json!({"name": "f", "args": {"a": 2}})));
        assert!(!fits(&own, &json!({"name": "g", "args": {"a": 1}})));
        assert!(!fits("no base 64!", &call));
        for foreign in [
            "skip_thought_signature_validator",
            "cmVmZXJlbmNlLXNpZ25hdHVyZS0x",
            "c2lnbmF0dXJl",
        ] {
            assert!(fits(foreign, &call), "{foreign}");
        }
    }
}
