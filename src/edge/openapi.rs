//! The OpenAPI document, made from the declarations of the endpoints.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, http::StatusCode, web};
use bytes::Bytes;
use kronos_protocol::error::ErrorCode;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use self::errors::{error_response, error_schema, header_components, headers, response_name};
use super::{
    EdgeState,
    endpoint::{Access, Answer, BodyUse, Content, Endpoint, Operation, Tag, get},
    error::map,
    input::Bounds,
};

mod errors;

/// What the document depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    /// Bounds of requests.
    pub(crate) bounds: Bounds,
    /// Callers without a token are served as guests.
    pub(crate) takes_guests: bool,
}

/// The document as it is served.
pub(crate) struct OpenApi(Bytes);

impl From<Value> for OpenApi {
    fn from(document: Value) -> Self {
        Self(Bytes::from(document.to_string()))
    }
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/openapi.json"], serve)
            .named("openapi", Tag::Docs, "The OpenAPI document")
            .about("OpenAPI 3.1 of every route.")
            .public()
            .returns::<Map<String, Value>>(200, "This document", || json!({"openapi": "3.1.0"})),
    ]
}

async fn serve(state: web::Data<EdgeState>) -> HttpResponse {
    let body = state.openapi.0.clone();
    std::future::ready(HttpResponse::Ok().content_type("application/json").body(body)).await
}

const INTRODUCTION: &str = "\
A stateful realtime server for AI chat. A conversation is a durable session: what is said over this API is seen live by \
every websocket attached to it, and the other way round. The websocket is described by `/asyncapi.json`.

Every error has one shape, `Error`, and carries the id of its request, which is also in the header `X-Request-ID`.";

/// Writes the document.
pub(crate) fn document(endpoints: &[Endpoint], about: About) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut document = Document {
        about,
        generator: settings.into_generator(),
        schemas: Map::new(),
        statuses: BTreeSet::new(),
    };
    let paths = document.paths(endpoints);
    let tags: Vec<Value> = Tag::ALL
        .iter()
        .map(|(tag, text)| json!({"name": tag.as_str(), "description": text}))
        .collect();
    let components = document.components();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kronos",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": components,
    })
}

struct Document {
    about: About,
    generator: SchemaGenerator,
    /// Of inputs, by name.
    schemas: Map<String, Value>,
    /// Of errors that some operation answers with.
    statuses: BTreeSet<u16>,
}

impl Document {
    fn paths(&mut self, endpoints: &[Endpoint]) -> Map<String, Value> {
        let mut paths = Map::new();
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.elsewhere) {
            let mut known: Vec<&str> = Vec::new();
            for path in endpoint.paths {
                // With and without the last slash is the same resource: one is enough to know.
                if known
                    .iter()
                    .any(|other| other.trim_end_matches('/') == path.trim_end_matches('/'))
                {
                    continue;
                }
                let mut operation = self.operation(&endpoint.operation);
                if !known.is_empty() {
                    operation["operationId"] = json!(format!("{}_{}", endpoint.operation.id, known.len() + 1));
                }
                known.push(path);
                let method = endpoint.method.as_str().to_ascii_lowercase();
                let item = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
                item[method] = operation;
            }
        }
        paths
    }

    fn operation(&mut self, operation: &Operation) -> Value {
        let mut value = json!({
            "operationId": operation.id,
            "tags": [operation.tag.as_str()],
            "summary": operation.summary,
            "security": self.security(operation.access),
            "responses": self.responses(operation),
        });
        if !operation.about.is_empty() {
            value["description"] = json!(operation.about);
        }
        let parameters = self.parameters(operation);
        if !parameters.is_empty() {
            value["parameters"] = json!(parameters);
        }
        if let Some((how, asked)) = &operation.body {
            let shape = (asked.shape)(self.about.bounds);
            let mut schema = shape.schema();
            (asked.rules)(&mut schema);
            self.schemas.insert(asked.name.to_owned(), schema);
            value["requestBody"] = json!({
                "required": *how == BodyUse::Required,
                "content": {"application/json": {
                    "schema": {"$ref": format!("#/components/schemas/{}", asked.name)},
                    "example": shape.example(),
                }},
            });
        }
        value
    }

    fn security(&self, access: Access) -> Value {
        match access {
            Access::Public => json!([]),
            Access::Caller if self.about.takes_guests => json!([{}, {"bearer": []}]),
            Access::Caller | Access::User | Access::Superuser => json!([{"bearer": []}]),
        }
    }

    fn parameters(&self, operation: &Operation) -> Vec<Value> {
        let path = operation.path.iter().map(|parameter| {
            json!({"name": parameter.name, "in": "path", "required": true, "description": parameter.doc,
                "schema": (parameter.schema)()})
        });
        let headers = operation.headers.iter().map(|header| {
            let mut schema = json!({"type": "string"});
            if let Some(pattern) = header.pattern {
                schema["pattern"] = json!(pattern);
            }
            json!({"name": header.name, "in": "header", "required": false, "description": header.doc, "schema": schema})
        });
        let body = operation.body.filter(|(how, _)| *how == BodyUse::OrQuery);
        let asked = operation.query.iter().copied().chain(body.map(|(_, asked)| asked));
        let query = asked
            .flat_map(|asked| (asked.shape)(self.about.bounds).fields)
            .map(|field| {
                // What may come in the body instead is not required here.
                let required = field.required && operation.query.is_some();
                let mut parameter =
                    json!({"name": field.name, "in": "query", "required": required, "schema": field.schema});
                if let Some(doc) = parameter["schema"]
                    .as_object_mut()
                    .and_then(|schema| schema.remove("description"))
                {
                    parameter["description"] = doc;
                }
                if let Some(example) = field.example {
                    parameter["example"] = example;
                }
                parameter
            });
        path.chain(query).chain(headers).collect()
    }

    fn responses(&mut self, operation: &Operation) -> Map<String, Value> {
        let mut responses = Map::new();
        for answer in &operation.answers {
            responses.insert(
                answer.status.as_u16().to_string(),
                self.answer(answer, operation.counted),
            );
        }
        for status in self.failures(operation) {
            self.statuses.insert(status);
            let reference = json!({"$ref": format!("#/components/responses/{}", response_name(status))});
            responses.insert(status.to_string(), reference);
        }
        responses
    }

    fn answer(&mut self, answer: &Answer, counted: bool) -> Value {
        let mut content = Map::new();
        for kind in &answer.contents {
            match kind {
                Content::Json { schema, example } => {
                    let schema = schema(&mut self.generator);
                    content.insert(
                        "application/json".to_owned(),
                        json!({"schema": schema, "example": example()}),
                    );
                }
                // OpenAPI 3.1 has no word for the items of a stream: as is usual, the schema is that of each event.
                Content::Events { schema, example } => {
                    let data = schema(&mut self.generator);
                    let schema = json!({"type": "object", "description": "Each event.", "properties": {
                        "id": {"type": "string", "description": "Where to go on: `Last-Event-ID`."},
                        "event": {"type": "string"},
                        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
                    }});
                    content.insert(
                        "text/event-stream".to_owned(),
                        json!({"schema": schema, "example": example()}),
                    );
                }
                Content::Text { content_type, example } => {
                    let schema = json!({"type": "string"});
                    content.insert(
                        (*content_type).to_owned(),
                        json!({"schema": schema, "example": example}),
                    );
                }
            }
        }
        let mut value = json!({"description": answer.doc, "headers": headers(counted)});
        if !content.is_empty() {
            value["content"] = Value::Object(content);
        }
        value
    }

    /// Statuses of the errors that may come.
    fn failures(&self, operation: &Operation) -> BTreeSet<u16> {
        let mut codes = operation.fails.clone();
        let names = |field: &str| {
            let asked = operation
                .query
                .iter()
                .chain(operation.body.iter().map(|(_, asked)| asked));
            asked
                .clone()
                .any(|asked| (asked.shape)(self.about.bounds).fields.iter().any(|f| f.name == field))
        };
        if operation.access != Access::Public {
            codes.extend([ErrorCode::Unauthenticated, ErrorCode::Storage]);
        }
        if operation.access == Access::Superuser || names("user_id") {
            codes.push(ErrorCode::Forbidden);
        }
        if operation.body.is_some() || operation.query.is_some() || !operation.path.is_empty() {
            codes.push(ErrorCode::Validation);
        }
        if !operation.path.is_empty() {
            codes.push(ErrorCode::NotFound);
        }
        if operation.counted {
            codes.push(ErrorCode::RateLimited);
        }
        codes.push(ErrorCode::Internal);
        let mut statuses: BTreeSet<u16> = codes.iter().map(|code| map(*code).status.as_u16()).collect();
        if operation.body.is_some() {
            statuses.extend([
                StatusCode::REQUEST_TIMEOUT.as_u16(),
                StatusCode::PAYLOAD_TOO_LARGE.as_u16(),
                StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
            ]);
        }
        statuses
    }

    fn components(mut self) -> Value {
        let mut schemas = self.schemas;
        schemas.append(&mut self.generator.take_definitions(true));
        schemas.insert("Error".to_owned(), error_schema());
        let responses: Map<String, Value> = self
            .statuses
            .iter()
            .map(|status| (response_name(*status), error_response(*status)))
            .collect();
        json!({
            "schemas": schemas,
            "responses": responses,
            "headers": header_components(),
            "securitySchemes": {"bearer": {
                "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                "description": "An access token, from `POST /api/v1/auth/login` or from the configured identity provider.",
            }},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_but_the_websocket_is_in_it() {
        let endpoints = crate::edge::endpoints();
        let about = About {
            bounds: Bounds::default(),
            takes_guests: false,
        };
        let document = document(&endpoints, about);
        for endpoint in &endpoints {
            let path = &document["paths"][endpoint.paths[0]];
            let method = endpoint.method.as_str().to_ascii_lowercase();
            let is_websocket = endpoint.paths.contains(&"/ws");
            assert_eq!(
                path[&method].is_object(),
                !is_websocket,
                "{method} {:?}",
                endpoint.paths
            );
        }
    }
}
