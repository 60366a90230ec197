//! What holds for every input: one function a property, which panics where it does not hold.
//!
//! The fuzzers in `fuzz/fuzz_targets` call them, and `cargo test` replays the inputs in
//! `fuzz/corpus` and `fuzz/regressions`. They are a module of the crate, since they test private
//! parts of it, and are compiled for those two only: under `cfg(tower_websocket_fuzzing)` and
//! `cfg(test)`. Never under `cfg(fuzzing)`, which is set for all crates wherever somebody fuzzes an
//! application.

mod connection;
#[cfg(feature = "deflate")]
mod deflate;
mod differential;
mod envelope;
#[cfg(feature = "deflate")]
mod extensions;
mod frames;
mod handshake;
mod http2;
mod input;
mod mount;
mod output;
mod proxies;
mod rates;
#[cfg(feature = "redis")]
mod replies;
mod stream;
mod topics;

pub use connection::connection;
#[cfg(feature = "deflate")]
pub use deflate::deflate;
pub use differential::differential;
pub use envelope::envelope;
#[cfg(feature = "deflate")]
pub use extensions::extensions;
pub use frames::frames;
pub use handshake::handshake;
pub use http2::http2;
pub use mount::mount;
pub use proxies::proxies;
pub use rates::rates;
#[cfg(feature = "redis")]
pub use replies::replies;
pub use topics::topics;

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use tokio::runtime::Runtime;

    use super::*;

    /// The targets whose inputs are replayed below.
    const REPLAYED: &[&str] = &[
        "connection",
        "deflate",
        "differential",
        "envelope",
        "extensions",
        "frames",
        "handshake",
        "http2",
        "mount",
        "proxies",
        "rates",
        "replies",
        "topics",
    ];

    /// The package of the fuzzers, which is there in every checkout of the repository. The
    /// published crate has neither it nor the inputs.
    fn fuzzers() -> PathBuf {
        fuzz().join("fuzz_targets")
    }

    fn fuzz() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    /// Every input of a target: those that cover it, and those on which it failed once.
    fn inputs(target: &str) -> Vec<PathBuf> {
        assert!(REPLAYED.contains(&target), "{target}");
        if !fuzzers().exists() {
            // Past the capture of the output, so that it is seen when the test passes.
            let line = format!("SKIPPED: no inputs for the fuzz target {target} are here\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return Vec::new();
        }
        let folders = [fuzz().join("corpus"), fuzz().join("regressions")];
        let files = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder.join(target)).ok())
            .flatten();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{target} has no corpus");
        files
    }

    fn replay(target: &str, property: impl Fn(&[u8])) {
        for file in inputs(target) {
            let data = fs::read(&file).unwrap();
            assert!(data.len() <= 4096, "{}", file.display());
            // Read when it fails: cargo shows the output of no other test.
            println!("{}", file.display());
            property(&data);
        }
    }

    /// Random numbers. A test that fails prints their seed; a fuzzer, which has the same properties, makes
    /// what fails smaller.
    pub(crate) fn random() -> StdRng {
        let seed = rand::random();
        println!("seed {seed}");
        StdRng::seed_from_u64(seed)
    }

    /// At most so many random bytes.
    pub(crate) fn random_bytes(random: &mut StdRng, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; random.random_range(0..=most)];
        random.fill(&mut bytes[..]);
        bytes
    }

    pub(super) fn paused() -> Runtime {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn s10_the_inputs_of_every_fuzz_target_are_replayed() {
        let Ok(files) = fs::read_dir(fuzzers()) else {
            return;
        };
        let files = files.map(|file| file.unwrap().path());
        let sources = files.filter(|file| file.extension().is_some_and(|e| e == "rs"));
        let mut targets: Vec<_> = sources
            .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        targets.sort_unstable();
        assert_eq!(targets, REPLAYED);
    }

    #[test]
    fn h1_h26_what_was_kept_of_handshakes_still_holds() {
        replay("handshake", handshake);
    }

    #[test]
    fn h27_what_was_kept_of_mounts_still_holds() {
        replay("mount", mount);
    }

    #[test]
    fn n9_x3_what_was_kept_of_frames_still_holds() {
        replay("frames", frames);
    }

    #[test]
    fn x4_what_was_kept_of_connections_still_holds() {
        replay("connection", |data| connection(&paused(), data));
    }

    #[test]
    fn s10_r2_6_what_was_kept_over_http2_still_holds() {
        replay("http2", |data| http2(&paused(), data));
    }

    #[test]
    fn s10_r1_what_was_kept_of_trusted_proxies_still_holds() {
        replay("proxies", proxies);
    }

    #[test]
    fn s10_f22_what_was_kept_of_rates_still_holds() {
        replay("rates", rates);
    }

    #[test]
    fn t1_t2_t8_what_was_kept_of_topics_still_holds() {
        replay("topics", |data| topics(&paused(), data));
    }

    #[test]
    fn x6_what_was_kept_beside_tungstenite_still_holds() {
        replay("differential", differential);
    }

    #[test]
    fn t12_what_was_kept_of_envelopes_still_holds() {
        replay("envelope", envelope);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn b7_what_was_kept_of_replies_still_holds() {
        replay("replies", replies);
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn h16_h17_what_was_kept_of_extensions_still_holds() {
        replay("extensions", extensions);
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn r5_what_was_kept_of_compressed_messages_still_holds() {
        replay("deflate", deflate);
    }
}
