//! What holds for every input: one function a property, which panics where it does not hold.
//!
//! Fuzzers call them from `fuzz/`, `cargo test` replays what they have kept. Compiled for those
//! two only, and with no more than the crate's own dependencies: `--cfg fuzzing` is also set
//! where somebody else fuzzes an application of this crate.

mod connection;
#[cfg(feature = "deflate")]
mod deflate;
mod differential;
#[cfg(feature = "deflate")]
mod extensions;
mod frames;
mod handshake;
mod input;
mod mount;
mod stream;

pub use connection::connection;
#[cfg(feature = "deflate")]
pub use deflate::deflate;
pub use differential::differential;
#[cfg(feature = "deflate")]
pub use extensions::extensions;
pub use frames::frames;
pub use handshake::handshake;
pub use mount::mount;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// All that was kept for a target: what covers it, and what once failed.
    fn kept(target: &str) -> Vec<PathBuf> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let folders = [fuzz.join("corpus"), fuzz.join("regressions")];
        let files = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder.join(target)).ok())
            .flatten();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        // The crate is published without them.
        assert_eq!(files.is_empty(), !fuzz.exists(), "{target}");
        files
    }

    fn replay(target: &str, property: impl Fn(&[u8])) {
        for file in kept(target) {
            let data = fs::read(&file).unwrap();
            assert!(data.len() <= 4096, "{}", file.display());
            // Read when it fails: cargo shows the output of no other test.
            println!("{}", file.display());
            property(&data);
        }
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
        replay("connection", |data| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            connection(&runtime, data);
        });
    }

    #[test]
    fn x6_what_was_kept_beside_tungstenite_still_holds() {
        replay("differential", differential);
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
