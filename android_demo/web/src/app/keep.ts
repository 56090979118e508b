/** Saves the session and the settings between visits. If the browser forbids storage, the page works without. */

export interface Settings {
  readonly excludeSeen: boolean;
  readonly filter: string;
  readonly theme: "light" | "dark" | null; // null: the system's
}

const SESSION = "pocketrec.session";
const SETTINGS = "pocketrec.settings";

function read(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function write(name: string, text: string): void {
  try {
    localStorage.setItem(name, text);
  } catch {
    // no storage (private window, full disk): the page works without
  }
}

/** The session in the format of every pocketrec runtime. */
export const savedSession = (): string | null => read(SESSION);
export const saveSession = (text: string): void => write(SESSION, text);

export function savedSettings(): Settings {
  let found: Partial<Settings> = {};
  try {
    found = (JSON.parse(read(SETTINGS) ?? "{}") as Partial<Settings> | null) ?? {};
  } catch {
    // invalid JSON counts as no settings
  }
  return {
    excludeSeen: found.excludeSeen !== false,
    filter: typeof found.filter === "string" ? found.filter : "",
    theme: found.theme === "light" || found.theme === "dark" ? found.theme : null,
  };
}

export const saveSettings = (settings: Settings): void => write(SETTINGS, JSON.stringify(settings));
