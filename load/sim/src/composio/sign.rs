//! The signature of a webhook.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Signs `id.timestamp.body` with the secret as raw text: `v1,` and base64.
///
/// The secret is not decoded and a `whsec_` at its start stays, unlike in Standard Webhooks.
pub(crate) fn sign(secret: &str, id: &str, timestamp: &str, body: &str) -> String {
    // HMAC takes keys of any length; the error type only exists for other MACs.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::sign;

    #[test]
    fn every_vector_gets_its_signature() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/composio");
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let vectors: Vec<_> = files
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("webhook__"))
            .collect();
        assert_eq!(vectors.len(), 5);
        for path in vectors {
            let vector: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let header = |name: &str| vector["request"]["headers"][name].as_str().unwrap();
            let body = vector["request"]["raw_body"].as_str().unwrap();
            let secret = vector["secret"].as_str().unwrap();
            let signature = sign(secret, header("webhook-id"), header("webhook-timestamp"), body);
            assert_eq!(signature, header("webhook-signature"), "{}", path.display());
        }
    }
}
