import { stamp } from "../lib/stamp";

export default function NotFound({ text }) {
  return <h1 data-missing="yes">{text}</h1>;
}

export async function getStaticProps({ locale }) {
  stamp(`/404 ${locale}`);
  return { props: { text: locale === "de" ? "Nicht im Bestand" : "Not in our collection" } };
}
