import type { ComponentChildren } from "preact";
import { Link, useTitle } from "../router";
import { EmptyState } from "../ui/states";
import { ModelsSection } from "./models_section";
import { ProfileSection } from "./profile_section";
import { SecuritySection } from "./security_section";
import { StorageSection } from "./storage_section";
import "./settings.css";

const SECTIONS: Record<string, { title: string; content: () => ComponentChildren }> = {
  profile: { title: "Profile", content: () => <ProfileSection /> },
  security: { title: "Password and sign-ins", content: () => <SecuritySection /> },
  models: { title: "Models", content: () => <ModelsSection /> },
  storage: { title: "Storage", content: () => <StorageSection /> },
};

export function SettingsView({ section }: { section: string }) {
  // Not what every object has, as `constructor`.
  const shown = Object.hasOwn(SECTIONS, section) ? SECTIONS[section] : undefined;
  useTitle(`${shown?.title ?? "No such page"} · Settings`);
  return (
    <div class="page settings">
      <header class="page-header">
        <h1>Settings</h1>
      </header>
      <nav class="tabs" aria-label="Settings">
        {Object.entries(SECTIONS).map(([name, { title }]) => (
          <Link key={name} href={`/settings/${name}`} aria-current={name === section ? "page" : undefined}>
            {title}
          </Link>
        ))}
      </nav>
      {shown ? shown.content() : <EmptyState icon="search" title="There are no such settings" />}
    </div>
  );
}
