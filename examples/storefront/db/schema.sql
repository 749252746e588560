create table if not exists stock (
  product_id text primary key,
  quantity integer not null check (quantity >= 0)
);

insert into stock (product_id, quantity)
values ('1', 40), ('2', 12), ('3', 7)
on conflict (product_id) do nothing;
