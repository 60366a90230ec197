//! [`Server`]: a Redis server of the test's own.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// It ends with this value.
pub struct Server {
    /// `None`: it is somebody's, and the test must not do with it what it likes.
    own: Option<Own>,
    port: u16,
    url: String,
}

struct Own {
    process: Option<Child>,
    dir: PathBuf,
    options: Vec<String>,
}

fn has_binary() -> bool {
    let found = Command::new("redis-server").arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or_default());
    // Past the capture of the test harness, which only `eprintln` goes through, and in one piece.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

impl Server {
    /// A server that only talks: one of the test's own, or the one at `REDIS_URL`. `None`, after saying so:
    /// there is none.
    pub fn any() -> Option<Self> {
        if has_binary() {
            return Self::own();
        }
        let Ok(url) = env::var("REDIS_URL") else {
            skipped("there is no redis-server here, and REDIS_URL names none");
            return None;
        };
        Some(Self {
            own: None,
            port: 0,
            url,
        })
    }

    /// A server to be mistreated.
    pub fn own() -> Option<Self> {
        Self::with(&[])
    }

    pub fn with(options: &[&str]) -> Option<Self> {
        if !has_binary() {
            skipped("there is no redis-server here");
            return None;
        }
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "tower-websocket-redis-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let mut server = Self {
            own: Some(Own {
                process: None,
                dir,
                options: options.iter().map(|&option| option.to_owned()).collect(),
            }),
            port: 0,
            url: String::new(),
        };
        // Another process may take the port before the server does, which then ends.
        for _ in 0..10 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            server.port = listener.local_addr().unwrap().port();
            drop(listener);
            if server.try_start() {
                server.url = format!("redis://127.0.0.1:{}", server.port);
                return Some(server);
            }
        }
        panic!("redis-server does not start: {}", server.log());
    }

    /// Of a server of the test's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of a file that is gone with the server.
    pub fn file(&self, name: &str) -> PathBuf {
        let own = self.own.as_ref().expect("a server of the test's own");
        own.dir.join(name)
    }

    /// For the next start.
    pub fn add_options(&mut self, options: &[&str]) {
        let options = options.iter().map(|&option| option.to_owned());
        self.mine().options.extend(options);
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A prefix of this test's own.
    pub fn prefix(&self) -> String {
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        format!("test:{nanos}:")
    }

    fn mine(&mut self) -> &mut Own {
        self.own.as_mut().expect("a server of the test's own")
    }

    /// Starts it, with what it has saved, and waits until it takes connections.
    pub fn start(&mut self) {
        assert!(self.try_start(), "{}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let port = self.port;
        let own = self.mine();
        let log = std::fs::File::create(own.dir.join("log")).unwrap();
        let mut process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--enable-debug-command", "yes", "--dir"])
            .arg(&own.dir)
            .args(&own.options)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < end, "redis-server does not listen");
            sleep(Duration::from_millis(10));
        }
        own.process = Some(process);
        true
    }

    /// Starts it with TLS in place of plain TCP, and a password. `false`, after saying so: it knows no TLS.
    pub fn start_tls(&mut self, certificate: &Path, key: &Path, password: &str) -> bool {
        let port = self.port.to_string();
        self.add_options(&[
            "--port",
            "0",
            "--tls-port",
            &port,
            "--tls-auth-clients",
            "no",
        ]);
        self.add_options(&["--tls-cert-file", certificate.to_str().unwrap()]);
        self.add_options(&["--tls-ca-cert-file", certificate.to_str().unwrap()]);
        self.add_options(&["--tls-key-file", key.to_str().unwrap()]);
        self.add_options(&["--requirepass", password]);
        let started = self.try_start();
        if !started {
            assert!(
                self.log().contains("FATAL CONFIG FILE ERROR"),
                "{}",
                self.log()
            );
            skipped("this redis-server was built without TLS");
        }
        started
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let own = self.own.as_ref().expect("a server of the test's own");
        std::fs::read_to_string(own.dir.join("log")).unwrap_or_default()
    }

    /// As a crash does.
    pub fn kill(&mut self) {
        let mut process = self.mine().process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGSTOP, SIGCONT.
    pub fn signal(&mut self, name: &str) {
        let id = self.mine().process.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Carries out a command, and gives the first line of the reply.
    pub fn command(&self, words: &[&str]) -> String {
        self.commands(&[words]).pop().unwrap()
    }

    /// The same on one connection, of which the last may be the interesting one.
    pub fn commands(&self, commands: &[&[&str]]) -> Vec<String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut replies = Vec::new();
        for words in commands {
            let mut text = format!("*{}\r\n", words.len());
            for word in *words {
                text += &format!("${}\r\n{word}\r\n", word.len());
            }
            (&stream).write_all(text.as_bytes()).unwrap();
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(size) = line.strip_prefix('$') {
                let size: i64 = size.trim().parse().unwrap();
                // There is none.
                let Ok(size) = usize::try_from(size) else {
                    replies.push(String::new());
                    continue;
                };
                let mut text = vec![0; size + 2];
                reader.read_exact(&mut text).unwrap();
                line = String::from_utf8_lossy(&text).into_owned();
            }
            replies.push(line.trim_end().to_owned());
        }
        replies
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            if let Some(mut process) = own.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
            let _ = std::fs::remove_dir_all(&own.dir);
        }
    }
}
