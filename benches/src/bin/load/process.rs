//! What a process has used.

use std::fs;

use crate::Result;

/// CPU time in seconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // proc(5): the name stands in brackets and may have spaces; utime and stime are the
        // 12th and 13th behind it.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let mut next =
            || -> Result<f64> { Ok(times.next().ok_or("stat is short")?? as f64 / ticks) };
        Ok(Self {
            user: next()?,
            system: next()?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }

    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Memory that is neither the program's file nor shared, in bytes.
pub(crate) fn rss_anon(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("no RssAnon")?;
    Ok(kib.parse::<u64>()? * 1024)
}
