-- Twenty airports of the US Department of Transportation's list (public domain), with sixty people each. The people are made
-- up: each of 24 first names with each of 50 last names.
INSERT INTO orgs (id, code, name) VALUES
    (1, 'ANC', 'Ted Stevens Anchorage International'),
    (2, 'ATL', 'William B Hartsfield-Atlanta Intl'),
    (3, 'BNA', 'Nashville International'),
    (4, 'BOS', 'Gen Edw L Logan Intl'),
    (5, 'CLT', 'Charlotte/Douglas International'),
    (6, 'DEN', 'Denver Intl'),
    (7, 'DFW', 'Dallas-Fort Worth International'),
    (8, 'DTW', 'Detroit Metropolitan-Wayne County'),
    (9, 'EWR', 'Newark Intl'),
    (10, 'HNL', 'Honolulu International'),
    (11, 'IAH', 'George Bush Intercontinental'),
    (12, 'JFK', 'John F Kennedy Intl'),
    (13, 'LAS', 'McCarran International'),
    (14, 'LAX', 'Los Angeles International'),
    (15, 'MCO', 'Orlando International'),
    (16, 'MIA', 'Miami International'),
    (17, 'MSP', 'Minneapolis-St Paul Intl'),
    (18, 'ORD', 'Chicago O''Hare International'),
    (19, 'PDX', 'Portland Intl'),
    (20, 'PHL', 'Philadelphia Intl');

-- Everybody's password is "correct horse battery staple".
WITH
first (n, name) AS (VALUES
    (0, 'Ada'), (1, 'Alan'), (2, 'Barbara'), (3, 'Brian'), (4, 'Christiane'), (5, 'Dennis'), (6, 'Donald'), (7, 'Edsger'),
    (8, 'Frances'), (9, 'Grace'), (10, 'Hedy'), (11, 'Ivan'), (12, 'Jean'), (13, 'John'), (14, 'Katherine'), (15, 'Ken'),
    (16, 'Leslie'), (17, 'Margaret'), (18, 'Niklaus'), (19, 'Radia'), (20, 'Shafi'), (21, 'Sophie'), (22, 'Tim'), (23, 'Tony')),
last (n, name) AS (VALUES
    (0, 'Abiteboul'), (1, 'Allen'), (2, 'Backus'), (3, 'Bartik'), (4, 'Berners'), (5, 'Booth'), (6, 'Cerf'), (7, 'Church'),
    (8, 'Clarke'), (9, 'Codd'), (10, 'Cook'), (11, 'Dahl'), (12, 'Diffie'), (13, 'Dijkstra'), (14, 'Engelbart'), (15, 'Estrin'),
    (16, 'Floyd'), (17, 'Goldberg'), (18, 'Gray'), (19, 'Hamilton'), (20, 'Hamming'), (21, 'Hartmanis'), (22, 'Hellman'), (23, 'Hoare'),
    (24, 'Hopper'), (25, 'Iverson'), (26, 'Johnson'), (27, 'Karp'), (28, 'Keller'), (29, 'Kernighan'), (30, 'Knuth'), (31, 'Lamport'),
    (32, 'Liskov'), (33, 'Lovelace'), (34, 'Lynch'), (35, 'McCarthy'), (36, 'Milner'), (37, 'Naur'), (38, 'Newell'), (39, 'Nygaard'),
    (40, 'Perlis'), (41, 'Perlman'), (42, 'Rabin'), (43, 'Ritchie'), (44, 'Scott'), (45, 'Shannon'), (46, 'Sutherland'), (47, 'Turing'),
    (48, 'Wilkes'), (49, 'Wirth')),
people (id, name, local) AS (
    SELECT 1 + 50 * first.n + last.n, first.name || ' ' || last.name, lower(first.name || '.' || last.name)
    FROM first CROSS JOIN last
)
INSERT INTO users (id, org_id, name, email, password)
SELECT people.id, orgs.id, people.name, people.local || '@' || lower(orgs.code) || '.example',
    '$argon2id$v=19$m=19456,t=2,p=1$kSc4njkseACeHpHE4xF+AA$/s+7LkEEGJzLnXU9cQ2UUuKjr7XG5x3fwhMVcDXU8n8'
FROM people JOIN orgs ON orgs.id = 1 + (people.id - 1) % 20
ORDER BY people.id;
