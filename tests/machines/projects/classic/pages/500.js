export default function Broken() {
  return <h1 data-broken="yes">Please ask at the desk</h1>;
}
