export type Product = { id: string; name: string; cents: number; colour: string };

const named: Product[] = [
  { id: "1", name: "Ballast scoop", cents: 2490, colour: "#b45309" },
  { id: "2", name: "Track gauge", cents: 7900, colour: "#0f766e" },
  { id: "3", name: "Signal lamp", cents: 12900, colour: "#b91c1c" },
];

/** The products that exist when the app is built; see `generateStaticParams`. */
export const featured = named;

/** Any id from 1 to 9999 is a product, so a test has as many on-demand pages as it wants. */
export function findProduct(id: string): Product | undefined {
  const known = named.find((product) => product.id === id);
  if (known) return known;
  if (!/^[1-9]\d{0,3}$/.test(id)) return undefined;
  const hue = (Number(id) * 47) % 360;
  return { id, name: `Spare part ${id}`, cents: 100 + Number(id) * 5, colour: `hsl(${hue} 60% 40%)` };
}

export function formatPrice(cents: number): string {
  return `€ ${(cents / 100).toFixed(2)}`;
}
