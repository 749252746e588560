export default function Page() {
  return <h1>Edition one</h1>;
}
