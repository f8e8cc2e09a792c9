//! The OpenAPI document as the tests use it: its operations, and whether an answer is what it says.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use jsonschema::Validator;
use kronos_testkit::HttpReply;
use serde_json::{Value, json};

use crate::harness::Edge;

/// The document of a server.
pub(crate) struct Document {
    root: Value,
    /// By `operationId`.
    pub(crate) operations: BTreeMap<String, Operation>,
    /// By their schema: most answers are one of few errors.
    validators: RefCell<HashMap<String, Rc<Validator>>>,
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) about: Value,
}

impl Document {
    pub(crate) async fn of(edge: &Edge) -> Self {
        let root = edge.get("/openapi.json", None).await.expect(200);
        assert_eq!(root["openapi"], "3.1.0");
        let mut operations = BTreeMap::new();
        for (path, item) in root["paths"].as_object().expect("paths") {
            for (method, about) in item.as_object().expect("a path item") {
                let id = about["operationId"].as_str().expect("an operationId").to_owned();
                let operation = Operation {
                    method: method.to_ascii_uppercase(),
                    path: path.clone(),
                    about: about.clone(),
                };
                assert!(operations.insert(id.clone(), operation).is_none(), "{id} twice");
            }
        }
        Self {
            root,
            operations,
            validators: RefCell::default(),
        }
    }

    pub(crate) fn operation(&self, id: &str) -> &Operation {
        self.operations
            .get(id)
            .unwrap_or_else(|| panic!("there is no operation {id}"))
    }

    /// Follows a reference, if this is one.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(pointer) => {
                let found = self.root.pointer(pointer.trim_start_matches('#'));
                self.resolve(found.unwrap_or_else(|| panic!("{pointer} leads nowhere")))
            }
            None => value,
        }
    }

    /// A validator of a schema of the document.
    pub(crate) fn validator(&self, schema: &Value) -> Rc<Validator> {
        let make = || {
            let whole = json!({"allOf": [schema], "components": self.root["components"]});
            jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{error}: {schema}"))
        };
        let mut validators = self.validators.borrow_mut();
        Rc::clone(validators.entry(schema.to_string()).or_insert_with(|| Rc::new(make())))
    }

    /// Checks that an answer is one of those that the operation documents.
    pub(crate) fn check(&self, id: &str, reply: &HttpReply) {
        let responses = &self.operation(id).about["responses"];
        let documented = &responses[reply.status.to_string()];
        assert!(
            documented.is_object(),
            "{id}: {} is not documented: {}",
            reply.status,
            reply.text()
        );
        let response = self.resolve(documented);
        for name in response["headers"]
            .as_object()
            .into_iter()
            .flat_map(|headers| headers.keys())
        {
            let optional = name.starts_with("RateLimit") || name == "Retry-After";
            let given = reply.header(&name.to_ascii_lowercase()).is_some();
            assert!(given || optional, "{id} {}: no {name}", reply.status);
        }
        let Some(contents) = response["content"].as_object() else {
            assert!(reply.body.is_empty(), "{id} {}: {}", reply.status, reply.text());
            return;
        };
        let content_type = reply.header("content-type").unwrap_or_default();
        let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
        let content = contents.iter().find(|(kind, _)| essence(kind) == essence(content_type));
        let (_, content) = content.unwrap_or_else(|| panic!("{id} {}: {content_type} is not documented", reply.status));
        if essence(content_type) == "application/json" {
            let body: Value = serde_json::from_slice(&reply.body).expect("JSON");
            let validator = self.validator(&content["schema"]);
            let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{id} {}: {errors:?}: {body}", reply.status);
        }
    }

    /// Every example stands by its schema.
    pub(crate) fn check_examples(&self, id: &str) {
        let operation = &self.operation(id).about;
        let mut contents: Vec<&Value> = Vec::new();
        let of = |holder: &'_ Value| {
            holder["content"]
                .as_object()
                .map(|map| map.values().cloned().collect::<Vec<_>>())
        };
        let body = of(&operation["requestBody"]).unwrap_or_default();
        let answers: Vec<Value> = operation["responses"]
            .as_object()
            .into_iter()
            .flat_map(|responses| responses.values())
            .flat_map(|response| of(self.resolve(response)).unwrap_or_default())
            .collect();
        contents.extend(&body);
        contents.extend(&answers);
        assert!(
            operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
            "{id} has no summary"
        );
        for content in contents {
            let named = content["examples"].as_object().into_iter().flat_map(|map| map.values());
            let examples: Vec<&Value> = named
                .map(|example| &example["value"])
                .chain(content.get("example"))
                .collect();
            assert!(!examples.is_empty(), "{id}: no example: {content}");
            let validator = self.validator(&content["schema"]);
            for example in examples {
                let errors: Vec<String> = validator.iter_errors(example).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{id}: {errors:?}: {example}");
            }
        }
    }
}

impl Operation {
    /// Whether a token is needed, on a server that serves no guests.
    pub(crate) fn is_guarded(&self) -> bool {
        self.about["security"]
            .as_array()
            .is_some_and(|security| !security.is_empty())
    }

    /// Statuses that it documents.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let responses = self.about["responses"].as_object().expect("responses");
        responses
            .keys()
            .map(|status| status.parse().expect("a status"))
            .collect()
    }

    /// Its path with something for each parameter: the same for all, or texts between spaces, one for each.
    pub(crate) fn path_with(&self, ids: &str) -> String {
        let (mut path, mut ids) = (String::new(), ids.split(' ').cycle());
        for (n, piece) in self.path.split(['{', '}']).enumerate() {
            path.push_str(if n % 2 == 0 {
                piece
            } else {
                ids.next().unwrap_or_default()
            });
        }
        path
    }

    /// Its example of a body.
    pub(crate) fn example(&self) -> Option<Value> {
        self.about["requestBody"]["content"]["application/json"]
            .get("example")
            .cloned()
    }

    /// Its parameters in the query.
    pub(crate) fn query(&self) -> impl Iterator<Item = &Value> {
        let parameters = self.about["parameters"].as_array().into_iter().flatten();
        parameters.filter(|parameter| parameter["in"] == "query")
    }
}
