create table orders (id integer primary key, item text not null);
insert into orders values (1, 'lamp'), (2, 'hammer');
