//! What came of many programs.

use super::{Case, Runs};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Tally {
    pub programs: u64,
    pub accepted: u64,
    pub runs: Runs,
    /// How many accepted programs had them.
    pub features: BTreeMap<&'static str, u64>,
    /// Of each kind of refusal how many there were, and the seed of one.
    pub refused: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    pub fn case(&mut self, case: &Case, seed: u64) {
        self.programs += 1;
        match &case.verdict {
            Ok(_) => {
                self.accepted += 1;
                for feature in &case.features {
                    *self.features.entry(feature).or_default() += 1;
                }
            }
            Err(error) => {
                let kind = format!("{:?}", error.kind);
                let kind = kind.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
                self.refused.entry(kind.to_owned()).or_insert((0, seed)).0 += 1;
            }
        }
    }

    pub fn runs(&mut self, runs: Runs) {
        self.runs.ended += runs.ended;
        self.runs.fuel += runs.fuel;
        self.runs.compared += runs.compared;
        self.runs.beside += runs.beside;
    }

    pub fn add(&mut self, other: Self) {
        self.programs += other.programs;
        self.accepted += other.accepted;
        self.runs(other.runs);
        for (feature, count) in other.features {
            *self.features.entry(feature).or_default() += count;
        }
        for (kind, (count, seed)) in other.refused {
            self.refused.entry(kind).or_insert((0, seed)).0 += count;
        }
    }
}
