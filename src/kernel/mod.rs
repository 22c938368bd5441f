//! The kernel as a producer.
