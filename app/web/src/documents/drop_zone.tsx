import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Icon } from "../ui/icon";
import { tell } from "../ui/toast";
import { filesOf } from "./files";
import { uploadReadable } from "./uploads";
import "./drop_zone.css";

/** Files and folders that are dropped anywhere on it are uploaded; files that are pasted too. */
export function DropZone({ children }: { children: ComponentChildren }) {
  const [isOver, setOver] = useState(false);
  useEffect(() => watchDrops(setOver), []);
  return (
    <>
      {children}
      {isOver && (
        <div class="drop-zone" aria-hidden="true">
          <p>
            <Icon name="upload" size={36} />
            <strong>Drop files or folders to add them</strong>
            <span>PDF, Word, PowerPoint, Excel, pictures, text and more</span>
          </p>
        </div>
      )}
    </>
  );
}

function watchDrops(setOver: (isOver: boolean) => void): () => void {
  let leaving: ReturnType<typeof setTimeout> | undefined;

  function over(event: DragEvent) {
    if (!holdsFiles(event.dataTransfer)) return;
    event.preventDefault();
    clearTimeout(leaving);
    setOver(true);
    // It comes again every 350 ms at most, and not any more once the files are outside.
    leaving = setTimeout(() => setOver(false), 600);
  }

  function drop(event: DragEvent) {
    if (!holdsFiles(event.dataTransfer)) return;
    event.preventDefault();
    clearTimeout(leaving);
    setOver(false);
    take(event.dataTransfer);
  }

  function paste(event: ClipboardEvent) {
    // A copied table is text and a picture of it: who pastes it into a field means the text.
    if (!holdsFiles(event.clipboardData) || event.clipboardData.types.includes("text/plain")) return;
    event.preventDefault();
    take(event.clipboardData);
  }

  window.addEventListener("dragover", over);
  window.addEventListener("drop", drop);
  window.addEventListener("paste", paste);
  return () => {
    clearTimeout(leaving);
    window.removeEventListener("dragover", over);
    window.removeEventListener("drop", drop);
    window.removeEventListener("paste", paste);
  };
}

function take(transfer: DataTransfer): void {
  filesOf(transfer).then(uploadReadable, () => tell("What was dropped can't be read. Use the button to choose it."));
}

function holdsFiles(transfer: DataTransfer | null): transfer is DataTransfer {
  return transfer?.types.includes("Files") ?? false;
}
