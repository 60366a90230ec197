#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    tower_websocket::properties::topics(&runtime.expect("a runtime"), data);
});
