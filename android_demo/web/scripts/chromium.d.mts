import type { Browser, BrowserContextOptions } from "playwright-core";
export const executablePath: string | undefined;
export const PHONE: BrowserContextOptions;
export function launch(): Promise<Browser>;
