//! How a bench was called.

/// Cargo passes `--bench` for `cargo bench` only; `--test` asks for a trial run there too.
pub fn is_trial() -> bool {
    let args: Vec<String> = std::env::args().collect();
    args.iter().any(|a| a == "--test") || !args.iter().any(|a| a == "--bench")
}
