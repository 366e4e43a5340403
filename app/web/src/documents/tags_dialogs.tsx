import { useState } from "preact/hooks";
import { messageOf } from "../api/errors";
import { count } from "../text/format";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Banner } from "../ui/states";
import { tell } from "../ui/toast";
import { type DocumentOut, forEach, patchDocument } from "./actions";
import { loadTags, replaceInList } from "./list_state";
import { MAX_TAGS, TagsEditor } from "./tags_editor";

interface Saving {
  isBusy: boolean;
  error: unknown;
}

const IDLE: Saving = { isBusy: false, error: null };

/** The tags of one document. */
export function EditTagsDialog({ document, onClose }: { document: DocumentOut; onClose: () => void }) {
  const [tags, setTags] = useState<readonly string[]>(document.tags);
  const [saving, setSaving] = useState(IDLE);

  async function save() {
    setSaving({ isBusy: true, error: null });
    try {
      replaceInList(await patchDocument(document.id, { tags: [...tags] }));
      void loadTags();
      onClose();
    } catch (error) {
      setSaving({ isBusy: false, error });
    }
  }

  return (
    <TagsDialog
      title={`Tags of ${document.filename}`}
      action="Save"
      saving={saving}
      tags={tags}
      onChange={setTags}
      onSave={save}
      onClose={onClose}
    />
  );
}

/** Tags that several documents get besides their own. */
export function AddTagsDialog({ documents, onClose }: { documents: readonly DocumentOut[]; onClose: () => void }) {
  const [tags, setTags] = useState<readonly string[]>([]);
  const [saving, setSaving] = useState(IDLE);

  async function save() {
    if (tags.length === 0) return onClose();
    setSaving({ isBusy: true, error: null });
    const { failed, error } = await forEach(documents, async (document) => {
      const all = [...new Set([...document.tags, ...tags])].slice(0, MAX_TAGS);
      replaceInList(await patchDocument(document.id, { tags: all }));
    });
    void loadTags();
    if (failed > 0) return setSaving({ isBusy: false, error });
    tell(`${count(documents.length, "document")} tagged.`);
    onClose();
  }

  const title = `Add tags to ${count(documents.length, "document")}`;
  return (
    <TagsDialog
      title={title}
      action="Add"
      saving={saving}
      tags={tags}
      onChange={setTags}
      onSave={save}
      onClose={onClose}
    />
  );
}

interface TagsDialogProps {
  title: string;
  action: string;
  saving: Saving;
  tags: readonly string[];
  onChange: (tags: readonly string[]) => void;
  onSave: () => void;
  onClose: () => void;
}

function TagsDialog({ title, action, saving, tags, onChange, onSave, onClose }: TagsDialogProps) {
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" isBusy={saving.isBusy} onClick={onSave}>
        {action}
      </Button>
    </>
  );
  return (
    <Dialog title={title} onClose={onClose} actions={actions}>
      <TagsEditor tags={tags} onChange={onChange} />
      {saving.error !== null && <Banner kind="error">{messageOf(saving.error)}</Banner>}
    </Dialog>
  );
}
