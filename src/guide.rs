//! Guides: [a traced program](traced_program), [the consumer's side](consumer), [the virtual machine](embedder).
#![cfg_attr(
    not(all(feature = "dtrace", feature = "kernel", feature = "replay")),
    allow(rustdoc::broken_intra_doc_links, reason = "they tell of what is not in this build")
)]

#[doc = include_str!("../docs/guide/traced_program.md")]
pub mod traced_program {}

#[doc = include_str!("../docs/guide/consumer.md")]
pub mod consumer {}

#[doc = include_str!("../docs/guide/embedder.md")]
pub mod embedder {}
