import { Link, navigate, useTitle } from "../router";
import { EmptyState } from "../ui/states";
import { findSection, isSection, usableGroups } from "./sections";
import "./settings.css";

export function SettingsView({ section }: { section: string }) {
  const shown = findSection(section);
  useTitle(`${shown?.title ?? "No such page"} · Settings`);
  return (
    <div class="page settings">
      <header class="page-header">
        <h1>Settings</h1>
      </header>
      <div class="settings-columns">
        <SectionList here={section} />
        <SectionChoice here={shown ? section : ""} />
        <div class="settings-content">{shown ? shown.content() : <NoSection name={section} />}</div>
      </div>
    </div>
  );
}

/** On a wide screen. */
function SectionList({ here }: { here: string }) {
  return (
    <nav class="settings-list" aria-label="Settings">
      {usableGroups().map(({ title, sections }) => (
        <section key={title} aria-label={title}>
          <h2>{title}</h2>
          <ul class="plain-list">
            {sections.map((each) => (
              <li key={each.name}>
                <Link href={`/settings/${each.name}`} aria-current={each.name === here ? "page" : undefined}>
                  {each.title}
                </Link>
              </li>
            ))}
          </ul>
        </section>
      ))}
    </nav>
  );
}

/** On a phone, in place of the list. */
function SectionChoice({ here }: { here: string }) {
  return (
    <label class="settings-choice">
      <span class="visually-hidden">Section</span>
      <select value={here} onChange={(event) => navigate(`/settings/${event.currentTarget.value}`)}>
        {here === "" && <option value="">Choose a section</option>}
        {usableGroups().map(({ title, sections }) => (
          <optgroup key={title} label={title}>
            {sections.map((each) => (
              <option key={each.name} value={each.name}>
                {each.title}
              </option>
            ))}
          </optgroup>
        ))}
      </select>
    </label>
  );
}

function NoSection({ name }: { name: string }) {
  if (!isSection(name)) return <EmptyState icon="search" title="There are no such settings" />;
  return (
    <EmptyState icon="info" title="These settings are for others">
      <p>Your role does not open them. Ask an owner of the organization, or who runs this deployment.</p>
    </EmptyState>
  );
}
