//! [`leads`]: which of the nodes does for a topic what one of them has to do.

/// Whether it is the node `own`, of all nodes that it knows. If they do not know the same, it may be two of
/// them or none.
pub(super) fn leads(topic: &str, own: u64, others: impl IntoIterator<Item = u64>) -> bool {
    // The one with the greatest weight: each node has its share of the topics, and one that comes or goes
    // changes the leader of its share alone.
    let weight = |node: u64| {
        // FNV-1a, since all nodes have to come to the same.
        let bytes = topic.bytes().chain(node.to_be_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash, node)
    };
    let own = weight(own);
    others.into_iter().all(|node| weight(node) < own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_leads_and_each_does_for_some_topics() {
        let nodes = [0x9d_1b42_77ac_03f1, 0x51c6_0a3e_e8d2_4470, 3, u64::MAX];
        let mut led = [0; 4];
        for n in 0..1000 {
            let topic = format!("room:{n}");
            let leads = |own: &u64| {
                let others = nodes.iter().copied().filter(|node| node != own);
                leads(&topic, *own, others)
            };
            let leaders: Vec<_> = (0..4).filter(|at| leads(&nodes[*at])).collect();
            assert_eq!(leaders.len(), 1, "{topic}");
            led[leaders[0]] += 1;
        }
        assert!(led.iter().all(|count| *count > 100), "{led:?}");
        assert!(leads("alone", 7, []));
    }
}
