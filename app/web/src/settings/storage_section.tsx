import { api, read } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { Link } from "../router";
import { formatBytes, formatNumber } from "../text/format";
import { ErrorState, Loading } from "../ui/states";

export function StorageSection() {
  const { data: storage, error, reload } = useLoaded(() => read(api.GET("/api/v1/organization/storage")));
  if (error) return <ErrorState error={error} onRetry={reload} />;
  if (!storage) return <Loading />;
  const figures: [string, string][] = [
    ["Files", formatBytes(storage.bytes)],
    ["Documents", formatNumber(storage.documents)],
    ["Pages", formatNumber(storage.pages)],
    ["Passages", formatNumber(storage.chunks)],
  ];
  return (
    <>
      <section class="card" aria-labelledby="storage-title">
        <h2 id="storage-title">What your organization keeps here</h2>
        <dl class="figures">
          {figures.map(([label, value]) => (
            <div key={label}>
              <dt>{label}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      </section>
      {storage.largest.length > 0 && (
        <section class="card" aria-labelledby="largest-title">
          <h2 id="largest-title">The largest documents</h2>
          <ul class="rows">
            {storage.largest.map((each) => (
              <li key={each.id}>
                <Link href={`/documents/${each.id}`} class="clip" dir="auto" title={each.filename}>
                  {each.filename}
                </Link>
                <Share bytes={each.size_bytes} of={storage.bytes} />
                <span>{formatBytes(each.size_bytes)}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function Share({ bytes, of }: { bytes: number; of: number }) {
  return <meter class="share" min={0} max={Math.max(of, 1)} value={bytes} aria-label="Share of all files" />;
}
