import type { Browser, Page } from "playwright-core";
export function buildTestPage(): Promise<string>;
export function openTestPage(browser: Browser, url: string): Promise<Page>;
