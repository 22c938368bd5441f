//! Helpers: what programs call, with typed prototypes.

mod call;
mod id;
mod printk;
mod prototype;
mod standard;
mod table;

pub use call::Call;
pub(crate) use call::status;
pub use id::HelperId;
pub use prototype::{Arg, MapTypes, Prototype, PrototypeError, Returns};
pub(crate) use table::{Body, Helper};
pub use table::{Helpers, RegisterError};
