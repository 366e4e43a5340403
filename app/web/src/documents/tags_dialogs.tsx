import { useState } from "preact/hooks";
import { count } from "../text/format";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { type DocumentOut, forEach, patchDocument } from "./actions";
import { loadTags, replaceInList } from "./list_state";
import { MAX_TAGS, TagsEditor } from "./tags_editor";

/** The tags of one document. */
export function EditTagsDialog({ document, onClose }: { document: DocumentOut; onClose: () => void }) {
  const save = async (tags: readonly string[]) => replaceInList(await patchDocument(document.id, { tags: [...tags] }));
  const title = `Tags of ${document.filename}`;
  return <TagsDialog title={title} action="Save" initial={document.tags} save={save} onClose={onClose} />;
}

/** Tags that several documents get besides their own. */
export function AddTagsDialog({ documents, onClose }: { documents: readonly DocumentOut[]; onClose: () => void }) {
  async function save(tags: readonly string[]) {
    if (tags.length === 0) return;
    const { failed, error } = await forEach(documents, async (document) => {
      const all = [...new Set([...document.tags, ...tags])].slice(0, MAX_TAGS);
      replaceInList(await patchDocument(document.id, { tags: all }));
    });
    if (failed > 0) throw error;
    tell(`${count(documents.length, "document")} tagged.`);
  }
  const title = `Add tags to ${count(documents.length, "document")}`;
  return <TagsDialog title={title} action="Add" initial={[]} save={save} onClose={onClose} />;
}

interface TagsDialogProps {
  title: string;
  action: string;
  initial: readonly string[];
  save: (tags: readonly string[]) => Promise<void>;
  onClose: () => void;
}

function TagsDialog({ title, action, initial, save, onClose }: TagsDialogProps) {
  const [tags, setTags] = useState(initial);
  const { isBusy, error, run } = useAction(async () => {
    await save(tags).finally(() => void loadTags());
    onClose();
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" isBusy={isBusy} onClick={run}>
        {action}
      </Button>
    </>
  );
  return (
    <Dialog title={title} onClose={onClose} actions={actions} error={error}>
      <TagsEditor tags={tags} onChange={setTags} />
    </Dialog>
  );
}
