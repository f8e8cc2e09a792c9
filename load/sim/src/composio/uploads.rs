//! `/files`, and the place to which presigned URLs lead.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::call::Call;
use super::error::{Answer, Reply};
use super::page::{self, page};
use super::state::State;

/// A file that was announced.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    toolkit: String,
    tool: String,
    name: String,
    mimetype: String,
    md5: String,
    /// How many bytes have come; `None` before.
    size: Option<usize>,
}

pub(crate) fn route(call: &Call<'_>, rest: &[&str]) -> Reply {
    match (call.method, rest) {
        ("POST", ["upload", "request"]) => request(call),
        ("GET", ["list"]) => {
            let store = call.state.store();
            let mut keys: Vec<&String> = store.uploads.keys().collect();
            keys.sort_unstable();
            let files = keys.into_iter().filter_map(|key| Some((key, store.uploads.get(key)?)));
            let files = files.map(|(key, file)| {
                json!({"key": key, "toolkit_slug": file.toolkit, "tool_slug": file.tool, "filename": file.name,
                       "mimetype": file.mimetype, "md5": file.md5, "size": file.size})
            });
            page(call, &files.collect::<Vec<Value>>(), page::MAX)
        }
        _ => Err(call.no_route()),
    }
}

fn request(call: &Call<'_>) -> Reply {
    let upload = Upload {
        toolkit: call.text("/toolkit_slug")?,
        tool: call.text("/tool_slug")?,
        name: call.text("/filename")?,
        mimetype: call.text("/mimetype")?,
        md5: call.text("/md5")?,
        size: None,
    };
    let mut store = call.state.store();
    let id = store.ids.id("req_file");
    let key = format!(
        "projects/pr_x/requests/{}/{}/{id}/{}",
        upload.toolkit, upload.tool, upload.name
    );
    let url = format!("{}/sim/upload/{id}", call.state.base());
    store.uploads.insert(key.clone(), upload);
    Ok(Answer::ok(json!({
        "id": id, "key": key, "type": "new", "newPresignedUrl": url, "new_presigned_url": url,
        "metadata": {"storage_backend": "s3"},
    })))
}

/// Takes the bytes of a presigned URL.
pub(crate) async fn put(state: web::Data<State>, id: web::Path<String>, body: web::Bytes) -> HttpResponse {
    let mut store = state.store();
    let part = format!("/{}/", *id);
    let file = store.uploads.iter_mut().find(|(key, _)| key.contains(&part));
    match file {
        Some((_, file)) => {
            file.size = Some(body.len());
            HttpResponse::Ok().finish()
        }
        None => HttpResponse::NotFound().finish(),
    }
}
