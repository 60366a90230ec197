//! A socket address in as few bytes as it needs: [`append`] and [`read`].

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address of an IPv4 socket, its port behind it.
const V4: usize = 4 + 2;
/// The same for IPv6.
const V6: usize = 16 + 2;
/// With a flow and a scope, which most addresses have not.
const V6_IN_FULL: usize = V6 + 4 + 4;

/// How many bytes [`append`] writes.
pub(super) fn len(address: Option<SocketAddr>) -> usize {
    match address {
        None => 0,
        Some(SocketAddr::V4(_)) => V4,
        Some(SocketAddr::V6(v6)) if (v6.flowinfo(), v6.scope_id()) == (0, 0) => V6,
        Some(SocketAddr::V6(_)) => V6_IN_FULL,
    }
}

/// Tells how many bytes those were.
pub(super) fn append(bytes: &mut Vec<u8>, address: Option<SocketAddr>) -> u8 {
    let len = len(address);
    match address {
        None => {}
        Some(SocketAddr::V4(v4)) => {
            bytes.extend_from_slice(&v4.ip().octets());
            bytes.extend_from_slice(&v4.port().to_be_bytes());
        }
        Some(SocketAddr::V6(v6)) => {
            bytes.extend_from_slice(&v6.ip().octets());
            bytes.extend_from_slice(&v6.port().to_be_bytes());
            if len == V6_IN_FULL {
                bytes.extend_from_slice(&v6.flowinfo().to_be_bytes());
                bytes.extend_from_slice(&v6.scope_id().to_be_bytes());
            }
        }
    }
    len as u8
}

/// What [`append`] wrote.
pub(super) fn read(bytes: &[u8]) -> Option<SocketAddr> {
    if bytes.len() == V4 {
        let (ip, rest) = bytes.split_first_chunk::<4>()?;
        let port = u16::from_be_bytes(*rest.first_chunk()?);
        return Some(SocketAddrV4::new((*ip).into(), port).into());
    }
    let (ip, rest) = bytes.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk()?;
    let (flow, scope) = match rest.split_first_chunk() {
        Some((flow, scope)) => (*flow, *scope.first_chunk()?),
        None => ([0; 4], [0; 4]),
    };
    let number = u32::from_be_bytes;
    let (ip, port) = (Ipv6Addr::from(*ip), u16::from_be_bytes(*port));
    Some(SocketAddrV6::new(ip, port, number(flow), number(scope)).into())
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_read_as_it_was_written_and_most_take_6_or_18_bytes() {
        let in_full = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0x0102_0304, 5);
        let addresses: [(Option<SocketAddr>, usize); 6] = [
            (None, 0),
            ("10.0.255.1:65535".parse().ok(), 6),
            ("[::ffff:10.0.0.1]:80".parse().ok(), 18),
            ("[2001:db8::1]:443".parse().ok(), 18),
            ("[fe80::1%3]:443".parse().ok(), 26),
            (Some(in_full.into()), 26),
        ];
        for (address, len) in addresses {
            let mut bytes = Vec::new();
            assert_eq!(usize::from(append(&mut bytes, address)), len);
            assert_eq!(bytes.len(), len);
            assert_eq!(read(&bytes), address);
        }
    }
}
