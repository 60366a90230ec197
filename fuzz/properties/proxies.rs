use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderValue};

use super::input::Input;
use crate::handshake::TrustedProxies;

/// Row R1: whatever the headers are, the client is the peer, or the address in the header that is
/// reached from its right end through trusted proxies only; what stands to the left of an address
/// that a trusted proxy has appended changes nothing.
pub fn proxies(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let forwarded = flags & 1 == 1;
    let networks: Vec<Network> = (0..flags >> 1 & 7).map(|_| network(&mut input)).collect();
    let texts = networks.iter().map(|network| &*network.text);
    let (name, proxies) = if forwarded {
        ("forwarded", TrustedProxies::forwarded(texts))
    } else {
        ("x-forwarded-for", TrustedProxies::x_forwarded_for(texts))
    };
    let trusts = |address: IpAddr| networks.iter().any(|network| network.contains(address));

    // Half of the peers are proxies.
    let peer = match networks.first() {
        Some(network) if flags & 16 != 0 => network.address,
        _ => address(&mut input),
    };
    // The hops that the proxies have appended, behind what the client wrote.
    let client = address(&mut input);
    let hops: Vec<IpAddr> = (0..input.byte() & 3)
        .filter_map(|_| networks.get(usize::from(input.byte())))
        .map(|network| network.address)
        .collect();
    let own_line = flags & 32 != 0;
    // A header as long as servers take, to see that time does not grow with its square.
    let times = if flags >> 6 == 3 { 64 } else { 1 };
    let mut lines: Vec<Vec<u8>> = Vec::new();
    while !input.is_empty() && lines.len() < 16 {
        lines.push(line(&mut input, forwarded).repeat(times));
    }

    let read = |lines: &[Vec<u8>]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).expect("it was made so"));
        }
        // The header that the proxies do not write means nothing.
        let other = if forwarded {
            "x-forwarded-for"
        } else {
            "forwarded"
        };
        headers.append(other, HeaderValue::from_static("for=192.0.2.66"));
        headers.append(other, HeaderValue::from_static("192.0.2.66"));
        proxies.client(peer, &headers)
    };
    let addresses: Vec<Option<IpAddr>> = lines
        .iter()
        .flat_map(|line| {
            if forwarded {
                elements(line)
            } else {
                line.split(|b| *b == b',').map(node).collect()
            }
        })
        .collect();
    assert_eq!(
        read(&lines),
        walk(peer, &addresses, trusts),
        "{networks:?} {lines:x?}"
    );

    // What a chain of trusted proxies makes of a client whose address is none of theirs.
    if !trusts(peer) || trusts(client) || !hops.iter().all(|hop| trusts(*hop)) {
        return;
    }
    let mut appended = String::new();
    for hop in [client].iter().chain(&hops) {
        let comma = if appended.is_empty() { "" } else { ", " };
        let _ = match (forwarded, hop) {
            (false, hop) => write!(appended, "{comma}{hop}"),
            (true, IpAddr::V4(hop)) => write!(appended, "{comma}proto=http;for={hop}"),
            (true, IpAddr::V6(hop)) => write!(appended, "{comma}For=\"[{hop}]:80\""),
        };
    }
    let nearest = hops.last().copied().unwrap_or(peer);
    match lines.last_mut() {
        Some(line) if !own_line => {
            line.extend_from_slice(b", ");
            line.extend_from_slice(appended.as_bytes());
            let found = read(&lines);
            // The client may have begun a quoted string, so that nobody knows what was appended.
            let unknown = forwarded && (found == peer.to_canonical() || found == nearest);
            assert!(
                found == client.to_canonical() || unknown,
                "{found} {lines:x?}"
            );
        }
        _ => {
            lines.push(appended.into_bytes());
            assert_eq!(read(&lines), client.to_canonical(), "{lines:x?}");
        }
    }
}

/// From the right: the first that is not trusted, or the last that is known.
fn walk(peer: IpAddr, addresses: &[Option<IpAddr>], trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let known: Vec<IpAddr> = std::iter::once(Some(peer))
        .chain(addresses.iter().rev().copied())
        .map_while(|address| address.map(|address| address.to_canonical()))
        .collect();
    let untrusted = known.iter().find(|address| !trusts(**address));
    *untrusted.or(known.last()).expect("the peer")
}

/// An entry in the list of proxies.
#[derive(Debug)]
struct Network {
    text: String,
    address: IpAddr,
    /// What of it counts; `None` if the text is neither an address nor a network.
    prefix: Option<u8>,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let Some(prefix) = self.prefix else {
            return false;
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let differing = ours.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= u32::from(prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let differing = ours.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= u32::from(prefix)
            }
            _ => false,
        }
    }
}

fn network(input: &mut Input<'_>) -> Network {
    let how = input.byte();
    let address = address(input).to_canonical();
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = input.byte() % (bits + 1);
    let (text, prefix) = match (how & 7, address) {
        (0 | 1, _) => (format!("{address}/{prefix}"), Some(prefix)),
        (2, _) => (format!(" {address}\t"), Some(bits)),
        (3, IpAddr::V4(v4)) => {
            let mapped = v4.to_ipv6_mapped();
            (format!("{mapped}/{}", 96 + prefix), Some(prefix))
        }
        (4, IpAddr::V4(v4)) => (v4.to_ipv6_mapped().to_string(), Some(bits)),
        (5, _) => (format!("{address}/{}", bits + 1), None),
        (6, _) => {
            let text = String::from_utf8_lossy(input.short());
            // No address, whatever it is.
            (format!("x{text}"), None)
        }
        _ => (address.to_string(), Some(bits)),
    };
    Network {
        text,
        address,
        prefix,
    }
}

/// Often one that others are near to.
fn address(input: &mut Input<'_>) -> IpAddr {
    let mut v4 = [10, 0, 0, 1];
    let mut v6 = [0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    match input.byte() {
        n @ 0..=99 => {
            v4[usize::from(n & 3)] = input.byte();
            Ipv4Addr::from(v4).into()
        }
        n @ 100..=199 => {
            v6[usize::from(n & 15)] = input.byte();
            Ipv6Addr::from(v6).into()
        }
        n @ 200..=219 => {
            v4[usize::from(n & 3)] = input.byte();
            Ipv4Addr::from(v4).to_ipv6_mapped().into()
        }
        _ => {
            let bytes = input.take(16);
            v6[..bytes.len()].copy_from_slice(bytes);
            Ipv6Addr::from(v6).into()
        }
    }
}

/// A line of the header: of pieces that mean something to whoever reads it, and of any others.
fn line(input: &mut Input<'_>, forwarded: bool) -> Vec<u8> {
    let mut line = Vec::new();
    while !input.is_empty() {
        let op = input.byte();
        match op & 15 {
            0 => break,
            1 => line.extend_from_slice(address(input).to_string().as_bytes()),
            2 => {
                let text = format!("[{}]:{}", address(input), input.u16());
                line.extend_from_slice(text.as_bytes());
            }
            3 => line.extend_from_slice(format!("{}:80", address(input)).as_bytes()),
            4 => line.extend_from_slice(input.one_of(&[&b", "[..], b",", b" ,\t", b",,"])),
            5 => line.extend_from_slice(b"for="),
            6 => line.extend_from_slice(input.one_of(&[&b";For="[..], b"; fOR=", b"by=x;for="])),
            7 => line.push(b'"'),
            8 => line.extend_from_slice(input.one_of(&[&b"\\"[..], b"\\\"", b"\\\\"])),
            9 => line.extend_from_slice(input.one_of(&[&b":_x"[..], b":99999", b":", b"_a"])),
            10 => line.extend_from_slice(b"unknown"),
            // A whole element.
            11..=13 if forwarded => {
                let text = format!(", for=\"[{}]\"", address(input));
                line.extend_from_slice(text.replace("[10.0.0.1]", "10.0.0.1").as_bytes());
            }
            11..=13 => line.extend_from_slice(format!(", {}", address(input)).as_bytes()),
            _ => line.extend(
                input
                    .short()
                    .iter()
                    .filter(|b| **b == b'\t' || !b.is_ascii_control()),
            ),
        }
    }
    line
}

/// The addresses behind `for`, character by character (RFC 7239 §4); one that is not known for a
/// line of which a quoted string never ends.
fn elements(line: &[u8]) -> Vec<Option<IpAddr>> {
    let mut elements = vec![vec![Vec::new()]];
    let mut quoted = false;
    let mut bytes = line.iter().copied();
    while let Some(b) = bytes.next() {
        let pairs = elements.last_mut().expect("there is one");
        match b {
            b',' if !quoted => elements.push(vec![Vec::new()]),
            b';' if !quoted => pairs.push(Vec::new()),
            _ => {
                let pair = pairs.last_mut().expect("there is one");
                pair.push(b);
                if b == b'"' {
                    quoted = !quoted;
                }
                if b == b'\\' && quoted {
                    // Whatever comes next is a part of the string.
                    pair.extend(bytes.next());
                }
            }
        }
    }
    if quoted {
        return vec![None];
    }
    elements.iter().map(|pairs| said_for(pairs)).collect()
}

/// What an element says once, and not more often.
fn said_for(pairs: &[Vec<u8>]) -> Option<IpAddr> {
    let mut said = pairs.iter().filter_map(|pair| {
        let pair = pair.trim_ascii();
        let name = pair.get(..4)?;
        name.eq_ignore_ascii_case(b"for=").then(|| &pair[4..])
    });
    let value = said.next()?;
    if said.next().is_some() {
        return None;
    }
    match value {
        [b'"', inside @ .., b'"'] => node(inside),
        _ => node(value),
    }
}

/// RFC 7239 §6, an IPv6 address without brackets besides.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = String::from_utf8(text.trim_ascii().to_vec()).ok()?;
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Some(v6.into());
    }
    let (address, port) = match text.rfind([':', ']']) {
        Some(at) if text[at..].starts_with(':') => (&text[..at], Some(&text[at + 1..])),
        _ => (&*text, None),
    };
    if !port.is_none_or(is_port) {
        return None;
    }
    match address.strip_prefix('[') {
        Some(rest) => Some(rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into()),
        None => Some(address.parse::<Ipv4Addr>().ok()?.into()),
    }
}

fn is_port(port: &str) -> bool {
    let mut rest = port.chars();
    if port.starts_with('_') {
        rest.next();
        let obfuscated = rest.as_str();
        return !obfuscated.is_empty()
            && obfuscated
                .chars()
                .all(|c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-'));
    }
    let number = port.chars().try_fold(0u64, |number, c| {
        let digit = c.to_digit(10)?;
        Some((number * 10 + u64::from(digit)).min(1 << 20))
    });
    !port.is_empty() && number.is_some_and(|number| number <= 65_535)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{random, random_bytes};

    #[test]
    fn s10_r1_no_header_names_an_address_that_only_an_untrusted_hop_said() {
        for _ in 0..500 {
            super::proxies(&random_bytes(&mut random(), 400));
        }
    }
}
