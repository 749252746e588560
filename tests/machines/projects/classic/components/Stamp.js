export default function Stamp({ made }) {
  return (
    <p>
      <small data-made={made.id}>{made.at}</small>
    </p>
  );
}
