-- Rows of notifications as a build has left them whose last migration is 0101.
-- ms:-5 in braces stands for the time 5 ms ago.
INSERT INTO barrier (saga_id, step, answer, undone, recorded_at) VALUES
('01a22e5d-2372-73dc-b005-af1718973d85', 'notify', '{"done":{}}', 0, {ms:-7567}),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'notify', '{"done":{}}', 0, {ms:-7488}),
('01a22e5d-23e6-714a-84e6-684584233523', 'notify', '{"done":{}}', 0, {ms:-7404}),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'notify', '{"done":{}}', 0, {ms:-7330}),
('01a22e5d-247e-7505-92d8-860340af1e0b', 'notify', '{"done":{}}', 0, {ms:-7278}),
('01a22e5d-24b0-728b-9511-1ac34caa424d', 'notify', '{"done":{}}', 0, {ms:-7278});
DELETE FROM import_version;
INSERT INTO import_version (one, version) VALUES
(1, 1);
INSERT INTO contacts (student_id, email, name) VALUES
('S000001', 's000001@example.org', 'Student 1'),
('S000002', 's000002@example.org', 'Student 2'),
('S000003', 's000003@example.org', 'Student 3'),
('S000004', 's000004@example.org', 'Student 4'),
('S000005', 's000005@example.org', 'Student 5'),
('S000006', 's000006@example.org', 'Student 6'),
('S000007', 's000007@example.org', 'Student 7'),
('S000008', 's000008@example.org', 'Student 8'),
('S000009', 's000009@example.org', 'Student 9'),
('S000010', 's000010@example.org', 'Student 10'),
('S000011', 's000011@example.org', 'Student 11'),
('S000012', 's000012@example.org', 'Student 12'),
('S000013', 's000013@example.org', 'Student 13'),
('S000014', 's000014@example.org', 'Student 14'),
('S000015', 's000015@example.org', 'Student 15'),
('S000016', 's000016@example.org', 'Student 16'),
('S000017', 's000017@example.org', 'Student 17'),
('S000018', 's000018@example.org', 'Student 18'),
('S000019', 's000019@example.org', 'Student 19'),
('S000020', 's000020@example.org', 'Student 20'),
('S000021', 's000021@example.org', 'Student 21'),
('S000022', 's000022@example.org', 'Student 22'),
('S000023', 's000023@example.org', 'Student 23'),
('S000024', 's000024@example.org', 'Student 24'),
('S000025', 's000025@example.org', 'Student 25'),
('S000026', 's000026@example.org', 'Student 26'),
('S000027', 's000027@example.org', 'Student 27'),
('S000028', 's000028@example.org', 'Student 28'),
('S000029', 's000029@example.org', 'Student 29'),
('S000030', 's000030@example.org', 'Student 30'),
('S000031', 's000031@example.org', 'Student 31'),
('S000032', 's000032@example.org', 'Student 32'),
('S000033', 's000033@example.org', 'Student 33'),
('S000034', 's000034@example.org', 'Student 34'),
('S000035', 's000035@example.org', 'Student 35'),
('S000036', 's000036@example.org', 'Student 36'),
('S000037', 's000037@example.org', 'Student 37'),
('S000038', 's000038@example.org', 'Student 38'),
('S000039', 's000039@example.org', 'Student 39'),
('S000040', 's000040@example.org', 'Student 40');
INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, delivered_at, undeliverable, delivery_failures, next_delivery_at) VALUES
('01a22e5d-2372-73dc-b005-af1718973d85', 'S000001', 'ENROLLED', 'You are enrolled in C002-L2 and C003-L1', 'Your registration is complete.

Added:
- C002-L2
- C003-L1

Charged to your account: USD 2,700.00

Registration 01a22e5d-2372-73dc-b005-af1718973d85
', {ms:-7567}, {ms:-7561}, NULL, 0, NULL),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'S000002', 'ENROLLED', 'You are enrolled in C002-L2 and C003-L1', 'Your registration is complete.

Added:
- C002-L2
- C003-L1

Charged to your account: USD 2,700.00

Registration 01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0
', {ms:-7488}, {ms:-7452}, NULL, 0, NULL),
('01a22e5d-23e6-714a-84e6-684584233523', 'S000003', 'ENROLLED', 'You are enrolled in C002-L2 and C003-L1', 'Your registration is complete.

Added:
- C002-L2
- C003-L1

Charged to your account: USD 2,700.00

Registration 01a22e5d-23e6-714a-84e6-684584233523
', {ms:-7404}, {ms:-7331}, NULL, 0, NULL),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'S000004', 'ENROLLED', 'You are enrolled in C002-L2 and C003-L1', 'Your registration is complete.

Added:
- C002-L2
- C003-L1

Charged to your account: USD 2,700.00

Registration 01a22e5d-244c-7149-bf9f-c0c2efd19271
', {ms:-7330}, {ms:-7230}, NULL, 0, NULL),
('01a22e5d-247e-7505-92d8-860340af1e0b', 'S000005', 'ENROLLED', 'You are enrolled in C002-L1', 'Your registration is complete.

Added:
- C002-L1

Charged to your account: USD 1,350.00

Registration 01a22e5d-247e-7505-92d8-860340af1e0b
', {ms:-7278}, {ms:-7230}, NULL, 0, NULL),
('01a22e5d-24b0-728b-9511-1ac34caa424d', 'S000006', 'ENROLLED', 'You are enrolled in C002-L1', 'Your registration is complete.

Added:
- C002-L1

Charged to your account: USD 1,350.00

Registration 01a22e5d-24b0-728b-9511-1ac34caa424d
', {ms:-7278}, {ms:-7230}, NULL, 0, NULL);
