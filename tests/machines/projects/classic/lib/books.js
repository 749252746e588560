const books = [
  { slug: "dune", author: "herbert", year: 1965, title: { en: "Dune", de: "Der Wüstenplanet" } },
  { slug: "middlemarch", author: "eliot", year: 1871, title: { en: "Middlemarch", de: "Middlemarch" } },
  { slug: "momo", author: "ende", year: 1973, title: { en: "Momo", de: "Momo" } },
  { slug: "solaris", author: "lem", year: 1961, title: { en: "Solaris", de: "Solaris" } },
];

for (let number = 1; number <= 200; number += 1) {
  const title = { en: `Volume ${number}`, de: `Band ${number}` };
  books.push({ slug: `volume-${number}`, author: "anonymous", year: 1700 + number, title });
}

export const allBooks = () => books;
export const findBook = (slug) => books.find((book) => book.slug === slug);
export const booksOf = (author) => books.filter((book) => book.author === author);
