export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** A whole number from a query string, held between two bounds. */
export function bounded(text: string | null | undefined, fallback: number, low: number, high: number): number {
  const value = Number.parseInt(text ?? "", 10);
  return Number.isNaN(value) ? fallback : Math.min(high, Math.max(low, value));
}
