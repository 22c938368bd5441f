//! Runs the loom models, and every mutant of every memory order against the models that the order table names for it.
//!
//! `run` prints two tables and fails when a model fails, comes to fewer executions than it must, or a mutant survives.
//! `run PREFIX` does so for the models whose names start with it, and for the mutants that they are to kill.
//! `model NAME` runs one model, under the mutant in `PERFRING_MUTANT=SITE:ORDER` if that is set.

#[cfg(perfring_loom)]
mod bpf;
#[cfg(perfring_loom)]
mod models;

#[cfg(perfring_loom)]
mod runner {
    use crate::bpf;
    use crate::models::{self, Model};
    use std::process::{Command, ExitCode, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    /// An execution longer than this is one that spins.
    const MAX_BRANCHES: usize = 20_000;

    fn all_models() -> impl Iterator<Item = &'static Model> {
        models::MODELS.iter().chain(bpf::MODELS)
    }

    /// The rows of all order tables.
    fn order_tables() -> impl Iterator<Item = &'static [&'static str; 5]> {
        perfring::ring::order_table()
            .iter()
            .chain(perfring::bpf::map::order_table())
            .chain(perfring::bpf::order_table())
    }

    /// Searches `model`; gives the number of executions.
    fn search(model: &Model) -> usize {
        let executions = Arc::new(AtomicUsize::new(0));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(model.preemptions);
        builder.max_branches = MAX_BRANCHES;
        let count = executions.clone();
        let run = model.run;
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            run();
        });
        executions.load(Ordering::Relaxed)
    }

    fn one(name: &str) -> ExitCode {
        let Some(model) = all_models().find(|model| model.name == name) else {
            eprintln!("no model {name}");
            return ExitCode::from(2);
        };
        println!("{}", search(model));
        ExitCode::SUCCESS
    }

    /// Runs `model` in a process of its own; gives the number of executions, or `None` when it failed.
    fn in_process(model: &str, mutant: Option<&str>) -> Option<usize> {
        let program = std::env::current_exe().expect("the path of this program");
        let mut command = Command::new(program);
        command.args(["model", model]).env_remove("PERFRING_MUTANT");
        if let Some(mutant) = mutant {
            command.env("PERFRING_MUTANT", mutant).stderr(Stdio::null());
        }
        let output = command.output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| text.trim().parse().expect("a number of executions"))
    }

    /// The orders that are one step weaker.
    fn weaker(order: &str) -> &'static [&'static str] {
        match order {
            "Acquire" | "Release" => &["Relaxed"],
            "AcqRel" => &["Acquire", "Release"],
            "SeqCst" => &["AcqRel", "Relaxed"],
            "Relaxed" => &[],
            other => panic!("unknown order {other}"),
        }
    }

    fn models_of(row: &str) -> impl Iterator<Item = &str> {
        row.split(", ").filter(|name| *name != "-")
    }

    /// The models that are named `name`, or start with it and an underscore: variants of one model kill its mutants, too.
    fn variants(name: &str) -> impl Iterator<Item = &'static Model> {
        let prefix = format!("{name}_");
        let name = name.to_owned();
        all_models().filter(move |model| model.name == name || model.name.starts_with(&prefix))
    }

    pub fn run(prefix: &str) -> ExitCode {
        let mut failures = 0;
        println!("| model | preemptions | executions | seconds |\n|---|---|---|---|");
        for model in all_models().filter(|model| model.name.starts_with(prefix)) {
            let start = Instant::now();
            match in_process(model.name, None) {
                Some(executions) => {
                    let seconds = start.elapsed().as_secs_f64();
                    println!("| {} | {} | {executions} | {seconds:.1} |", model.name, model.preemptions);
                    if executions < model.at_least {
                        println!("  too few: at least {}", model.at_least);
                        failures += 1;
                    }
                }
                None => {
                    println!("| {} | {} | FAILED | |", model.name, model.preemptions);
                    failures += 1;
                }
            }
        }
        println!("\n| mutant | killed by | seconds |\n|---|---|---|");
        let (mut killed, mut all) = (0, 0);
        let wanted = |row: &&[&str; 5]| prefix.is_empty() || models_of(row[4]).any(|name| name.starts_with(prefix));
        for [site, order, _, _, models] in order_tables().filter(wanted) {
            for name in models_of(models) {
                if variants(name).next().is_none() {
                    println!("{site} names {name}, which is no model");
                    failures += 1;
                }
            }
            for order in weaker(order) {
                let mutant = format!("{site}:{order}");
                let start = Instant::now();
                let killer =
                    models_of(models).flat_map(variants).find(|model| in_process(model.name, Some(&mutant)).is_none());
                all += 1;
                killed += usize::from(killer.is_some());
                let killer = killer.map_or("SURVIVED", |model| model.name);
                println!("| {mutant} | {killer} | {:.1} |", start.elapsed().as_secs_f64());
            }
        }
        println!("\n{killed} of {all} mutants killed, {failures} models failed");
        if killed == all && failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    pub fn main() -> ExitCode {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["run"] => run(""),
            ["run", prefix] => run(prefix),
            ["model", name] => one(name),
            _ => {
                eprintln!("usage: perfring-loom-tests run [PREFIX] | model NAME");
                ExitCode::from(2)
            }
        }
    }
}

#[cfg(perfring_loom)]
fn main() -> std::process::ExitCode {
    runner::main()
}

#[cfg(not(perfring_loom))]
fn main() {
    eprintln!("build it with RUSTFLAGS=\"--cfg perfring_loom\": see the script `run`");
    std::process::exit(2);
}
