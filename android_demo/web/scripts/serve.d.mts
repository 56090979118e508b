export interface Server {
  readonly url: string;
  readonly counts: { sent: number };
  close(): Promise<unknown>;
}
export function serve(roots: Record<string, string>, port?: number): Promise<Server>;
