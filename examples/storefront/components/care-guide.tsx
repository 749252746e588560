/** What nobody reads before they buy: a chunk of its own, loaded when it is opened. */
export default function CareGuide() {
  return <p data-guide="care">Wipe with a dry cloth. Keep tools dry and lamps unplugged while you do.</p>;
}
