/** A conversation is a tree, of which one path is shown: the one that ends with a chosen leaf. */
interface TreeNode {
  id: string;
  parentId: string | null;
}

export interface Step<Node extends TreeNode> {
  node: Node;
  /** The branches at this place, the node among them, oldest first. */
  siblings: readonly Node[];
}

/**
 * From the first message to the leaf, and on to the newest message below it. `nodes` are sorted,
 * oldest first; null or an unknown leaf stands for the newest message.
 */
export function pathTo<Node extends TreeNode>(nodes: readonly Node[], leaf: string | null): Step<Node>[] {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const children = groupByParent(nodes);
  const start = (leaf === null ? undefined : byId.get(leaf)) ?? nodes.at(-1);
  if (!start) return [];
  const path: Node[] = [];
  for (let node: Node | undefined = newestBelow(start, children); node; node = byId.get(node.parentId ?? ""))
    path.unshift(node);
  return path.map((node) => ({ node, siblings: children.get(node.parentId) ?? [node] }));
}

function groupByParent<Node extends TreeNode>(nodes: readonly Node[]): Map<string | null, Node[]> {
  const groups = new Map<string | null, Node[]>();
  for (const node of nodes) {
    const group = groups.get(node.parentId);
    if (group) group.push(node);
    else groups.set(node.parentId, [node]);
  }
  return groups;
}

function newestBelow<Node extends TreeNode>(start: Node, children: ReadonlyMap<string | null, Node[]>): Node {
  const leaves: Node[] = [];
  const waiting = [start];
  for (let node = waiting.pop(); node; node = waiting.pop()) {
    const below = children.get(node.id);
    if (below) waiting.push(...below);
    else leaves.push(node);
  }
  // Ids are made in the order of time.
  return leaves.reduce((newest, leaf) => (leaf.id > newest.id ? leaf : newest), leaves[0] ?? start);
}
