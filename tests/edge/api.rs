//! Every operation of the OpenAPI document: what it promises, and each error that it documents.
//!
//! The tests read the document of the running server. An operation that has no case of its own here fails them, and so does a
//! documented status that nothing provokes.

mod cases;
pub(crate) mod document;
mod every;
