//! The types of the platform that have a name.

use super::name;
use crate::bpf::btf::{Btf, Kind, TypeId};
use std::collections::HashMap;

/// Types by their names without flavours; found when the first is asked for.
#[derive(Debug, Default)]
pub(super) struct Candidates<'a> {
    by_name: Option<HashMap<&'a str, Vec<TypeId>>>,
}

impl<'a> Candidates<'a> {
    /// Those of this name, in their order.
    pub(super) fn of(&mut self, btf: &'a Btf, name: &str) -> &[TypeId] {
        let by_name = self.by_name.get_or_insert_with(|| index(btf));
        by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

fn index(btf: &Btf) -> HashMap<&str, Vec<TypeId>> {
    let mut by_name: HashMap<&str, Vec<TypeId>> = HashMap::new();
    for (id, type_) in btf.types() {
        // Functions and variables are no types, however many there are.
        if matches!(type_.kind(), Kind::Void | Kind::Func | Kind::Var | Kind::Datasec | Kind::DeclTag | Kind::TypeTag) {
            continue;
        }
        // What has a longer name has not that of an object's type.
        if let Ok(name) = name::of_type(btf, id)
            && !name.is_empty()
        {
            by_name.entry(name::essential(name)).or_default().push(id);
        }
    }
    by_name
}

/// Whether one may stand for the other: enumerations do, whatever the size of their values.
pub(super) fn same_kind(one: Kind, other: Kind) -> bool {
    let is_enum = |kind| matches!(kind, Kind::Enum | Kind::Enum64);
    one == other || (is_enum(one) && is_enum(other))
}
