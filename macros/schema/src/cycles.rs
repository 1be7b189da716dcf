//! Which types contain themselves: strongly connected components.

/// For each node the number of its cycle, if it is in one; and all nodes, each after those that it leads to outside of
/// its own cycle.
///
/// Tarjan's algorithm (Depth-First Search and Linear Graph Algorithms, 1972) with a stack of its own: a chain of types
/// may be as long as the schema's text.
pub(crate) fn cycles(edges: &[Vec<usize>]) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut search = Search {
        edges,
        order: vec![None; edges.len()],
        low: vec![0; edges.len()],
        open: Vec::new(),
        is_open: vec![false; edges.len()],
        cycles: vec![None; edges.len()],
        closed: Vec::with_capacity(edges.len()),
    };
    for node in 0..edges.len() {
        if search.order[node].is_none() {
            search.from(node);
        }
    }
    (search.cycles, search.closed)
}

struct Search<'a> {
    edges: &'a [Vec<usize>],
    /// When each node was reached.
    order: Vec<Option<usize>>,
    /// The earliest open node that each leads back to.
    low: Vec<usize>,
    open: Vec<usize>,
    is_open: Vec<bool>,
    cycles: Vec<Option<usize>>,
    closed: Vec<usize>,
}

impl Search<'_> {
    fn from(&mut self, root: usize) {
        self.enter(root);
        // Nodes on the way, and the edge of each that is looked at next.
        let mut way = vec![(root, 0)];
        while let Some((node, next)) = way.last_mut() {
            let (node, edge) = (*node, *next);
            *next += 1;
            match self.edges[node].get(edge) {
                Some(target) => match self.order[*target] {
                    None => {
                        self.enter(*target);
                        way.push((*target, 0));
                    }
                    Some(order) if self.is_open[*target] => self.low[node] = self.low[node].min(order),
                    Some(_) => {}
                },
                None => {
                    way.pop();
                    if let Some((before, _)) = way.last() {
                        self.low[*before] = self.low[*before].min(self.low[node]);
                    }
                    if self.order[node] == Some(self.low[node]) {
                        self.close(node);
                    }
                }
            }
        }
    }

    fn enter(&mut self, node: usize) {
        let order = self.closed.len() + self.open.len();
        self.order[node] = Some(order);
        self.low[node] = order;
        self.open.push(node);
        self.is_open[node] = true;
    }

    /// All that is open since `node` is one component.
    fn close(&mut self, node: usize) {
        let start = self.open.iter().rposition(|open| *open == node).unwrap_or_default();
        let members = self.open.split_off(start);
        let in_cycle = members.len() > 1 || self.edges[node].contains(&node);
        for member in members {
            self.is_open[member] = false;
            self.cycles[member] = in_cycle.then_some(node);
            self.closed.push(member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cycles;

    #[test]
    fn components_are_found_and_ordered() {
        // 0 → 1 ⇄ 2 → 3, 3 alone, 4 → 4.
        let (found, order) = cycles(&[vec![1], vec![2], vec![1, 3], vec![], vec![4]]);
        assert_eq!((found[0], found[1], found[2], found[3], found[4]), (None, Some(1), Some(1), None, Some(4)));
        let at = |node| order.iter().position(|other| *other == node);
        assert!(at(3) < at(1) && at(3) < at(2) && at(1) < at(0), "{order:?}");
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let edges = (1..=1_000_000).map(|next| if next < 1_000_000 { vec![next] } else { vec![] }).collect::<Vec<_>>();
        assert!(cycles(&edges).0.iter().all(Option::is_none));
    }
}
