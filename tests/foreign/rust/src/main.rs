//! The `main` that vTilt's Rust guide leaves out: it does what the guide shows, then waits until
//! its input is closed, since the printed `capture` returns before anything is sent.
//!
//! `vtilt.rs` (the client) and `usage.rs` (the calls, in braces) are cut from the guide.

mod vtilt;

#[tokio::main]
async fn main() {
    include!("usage.rs");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("standard input");
}
