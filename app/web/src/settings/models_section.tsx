import { useEffect } from "preact/hooks";
import { loadModels, models } from "../api/models";
import { formatNumber } from "../text/format";
import { Banner, Loading } from "../ui/states";

const STATES: Record<string, string> = {
  ok: "Ready",
  down: "Not reachable",
  unconfigured: "Not connected",
  unusable: "Can't be used with these settings",
  unknown: "Not known now",
};

export function ModelsSection() {
  useEffect(() => void loadModels(), []);
  const known = models.value;
  if (!known) return <Loading />;
  return (
    <>
      {known.answers === "extractive" && (
        <Banner>No language model is connected: answers are sentences quoted from your documents.</Banner>
      )}
      <section class="card" aria-labelledby="models-title">
        <h2 id="models-title">Models that answer</h2>
        <ul class="rows">
          {known.models.map((each) => (
            <li key={each.id}>
              <span class="clip" title={each.id}>
                {each.id}
              </span>
              {each.is_default && <span class="badge">Default</span>}
              <span class="faint">
                {each.context_window ? `${formatNumber(each.context_window)} tokens of context` : ""}
              </span>
              <State state={each.state} />
            </li>
          ))}
        </ul>
      </section>
      <section class="card" aria-labelledby="providers-title">
        <h2 id="providers-title">Providers</h2>
        <ul class="rows">
          {known.providers.map((each) => (
            <li key={each.name}>
              <span>{each.name}</span>
              <span class="faint">{each.hint}</span>
              <State state={each.state} />
            </li>
          ))}
        </ul>
      </section>
      <section class="card" aria-labelledby="embedding-title">
        <h2 id="embedding-title">Model that finds passages</h2>
        <ul class="rows">
          <li>
            <span class="clip">{known.embedding_model.id}</span>
            <State state={known.embedding_model.state} />
          </li>
        </ul>
      </section>
    </>
  );
}

function State({ state }: { state: string }) {
  return (
    <span class="model-state" data-state={state}>
      {STATES[state] ?? state}
    </span>
  );
}
